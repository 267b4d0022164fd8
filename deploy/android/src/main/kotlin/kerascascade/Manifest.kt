package kerascascade

import java.security.MessageDigest
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** The bundle cannot be used here. */
class BundleException(message: String) : Exception(message)

/** An input of a model, the batch first; `null` is any size. */
class InputSpec(
    val name: String,
    val shape: List<Int?>,
    val dtype: String,
    val range: ClosedFloatingPointRange<Double>?,
    /** Of integers in the place of the cascade's floats. */
    val scale: Float? = null,
    val zeroPoint: Float = 0f,
) {
    /** Number of values of one row, or `null` where a size is free. */
    val size: Int?
        get() = shape.drop(1).fold(1 as Int?) { product, size ->
            if (product == null || size == null) null else product * size
        }

    /** The integers for a row: the nearest, halves to even; as bytes. */
    fun bytes(row: FloatArray): ByteArray {
        val limits = if (dtype == "int8") -128.0..127.0 else 0.0..255.0
        return ByteArray(row.size) {
            val steps = if (scale == null) row[it] else row[it] / scale + zeroPoint
            Math.rint(steps.toDouble()).coerceIn(limits).toInt().toByte()
        }
    }

    /**
     * Checks one row: finite numbers, not far outside of the calibration's range,
     * as pixels from 0 to 255 are where 0 to 1 is expected.
     */
    fun check(row: FloatArray) {
        require(size == null || row.size == size) {
            "Expected $size numbers in input '$name'. Received: ${row.size}."
        }
        val margin = range?.let { 4 * (it.endInclusive - it.start) } ?: 0.0
        for (value in row) {
            require(!value.isNaN() && !value.isInfinite()) {
                "Expected finite numbers in input '$name'."
            }
            require(range == null || value >= range.start - margin &&
                value <= range.endInclusive + margin) {
                "Expected numbers in the range of the calibration, $range, in " +
                    "input '$name'. Received: $value."
            }
        }
    }
}

/**
 * A threshold with a name.
 *
 * @property threshold with [classThresholds] the highest of them.
 * @property classThresholds one for each class that the student predicts.
 */
class OperatingPoint(
    val name: String,
    val threshold: Double,
    val classThresholds: List<Double>? = null,
) {
    /** The threshold of the student's class, in the scores' own float32. */
    fun float(label: Int): Float =
        (classThresholds?.get(label) ?: threshold).coerceIn(
            -Float.MAX_VALUE.toDouble(), Float.MAX_VALUE.toDouble()
        ).toFloat()

    /** This point's threshold is part of the student's file. */
    val isInFile: Boolean
        get() = name == DEFAULT

    companion object {
        const val DEFAULT = "default"
    }
}

/**
 * The keys of `manifest.json` that a device uses.
 *
 * The manifest's own hash is not checked; [read]'s `pin` is about all of it.
 */
class Manifest private constructor(
    val classes: List<String>,
    val input: List<InputSpec>,
    val studentInput: List<InputSpec>,
    val teacherInput: List<InputSpec>,
    val studentFile: String,
    val studentSha256: String,
    val readsTexts: Boolean,
    /** Name of the output with the teacher's logits. */
    val teacherOutput: String,
    /**
     * Identity of the bundle's teacher, as docs/identity.md defines it; `null`
     * where none is known.
     */
    val teacherIdentity: String?,
    val operatingPoints: List<OperatingPoint>,
) {
    /** Finds an operating point; without a name the default, or the first. */
    fun operatingPoint(name: String? = null): OperatingPoint =
        operatingPoints.find { it.name == (name ?: OperatingPoint.DEFAULT) }
            ?: if (name == null) operatingPoints.first() else throw BundleException(
                "Expected an operating point out of " +
                    "${operatingPoints.joinToString { it.name }}. Received: $name."
            )

    /** Checks the student's file against its hash. */
    fun checkStudent(content: ByteArray) {
        if (sha256(content) != studentSha256) throw BundleException(
            "'$studentFile' is not the file that the manifest lists. Copy the " +
                "bundle again."
        )
    }

    companion object {
        private const val FORMAT = "keras_cascade.bundle"
        private const val VERSION = 1
        private val HASH = Regex("[0-9a-f]{64}")

        /**
         * Reads the content of `manifest.json`.
         *
         * @param pin SHA-256 that it must have, in hex.
         */
        fun read(content: ByteArray, pin: String? = null): Manifest {
            if (pin != null && sha256(content) != pin) {
                throw BundleException("manifest.json is not the one that was pinned.")
            }
            val json = try {
                JSONObject(String(content, Charsets.UTF_8))
            } catch (error: JSONException) {
                throw BundleException(
                    "Expected JSON in manifest.json. Received: ${error.message}."
                )
            }
            check(json.opt("format") == FORMAT, "format", "'$FORMAT'")
            val version = json.opt("version")
            if (version != VERSION) throw BundleException(
                "manifest.json has version $version; this app reads version " +
                    "$VERSION. Update the app, or export the bundle again."
            )
            return try {
                parse(json)
            } catch (error: JSONException) {
                throw BundleException("manifest.json is not valid: ${error.message}.")
            }
        }

        private fun parse(json: JSONObject): Manifest {
            val classes = texts(json.opt("classes"))
            check(classes != null && classes.size >= 2, "classes", "two names or more")
            val student = json.getJSONObject("student")
            val file = student.opt("file")
            val hash = student.opt("sha256")
            check(
                file is String && isInside(file) && hash is String && HASH.matches(hash),
                "student", "'file', a path inside the bundle, and its 'sha256'",
            )
            val teacher = json.optJSONObject("teacher")
            val input = inputs(json, "input")!!
            val remote = json.optJSONObject("remote_teacher")
            val points = list(json.opt("operating_points")).map {
                point(it as? JSONObject ?: JSONObject(), classes!!.size)
            }
            check(points.isNotEmpty(), "operating_points", "one or more")
            return Manifest(
                classes!!,
                input,
                inputs(student, "input") ?: input,
                teacher?.let { inputs(it, "input") } ?: input,
                file as String,
                hash as String,
                student.has("text"),
                (teacher ?: remote)?.opt("output") as? String ?: "logits",
                if (teacher == null) remote?.opt("identity") as? String
                else identity(classes, teacher),
                points,
            )
        }

        private fun point(json: JSONObject, classes: Int): OperatingPoint {
            val name = json.opt("name")
            val threshold = json.opt("threshold")
            val listed = json.opt("class_thresholds") as? JSONArray
            val perClass = listed?.let { list(it).filterIsInstance<Number>() }
            check(
                name is String && threshold is Number && (perClass == null ||
                    perClass.size == classes && perClass.size == listed.length()),
                "operating_points",
                "'name', 'threshold' and one class threshold per class or none each",
            )
            return OperatingPoint(
                name as String,
                (threshold as Number).toDouble(),
                perClass?.map { it.toDouble() },
            )
        }

        private fun inputs(json: JSONObject, key: String): List<InputSpec>? {
            if (!json.has(key)) return null
            val found = list(json.opt(key)).map {
                val one = it as? JSONObject ?: JSONObject()
                val range = one.optJSONArray("range")
                val quantization = one.optJSONObject("quantization")
                InputSpec(
                    one.getString("name"),
                    list(one.opt("shape")).map { size -> (size as? Number)?.toInt() },
                    one.getString("dtype"),
                    range?.let { ends -> ends.getDouble(0)..ends.getDouble(1) },
                    quantization?.getDouble("scale")?.toFloat(),
                    quantization?.getDouble("zero_point")?.toFloat() ?: 0f,
                )
            }
            check(found.isNotEmpty(), key, "one input or more")
            return found
        }

        private fun identity(classes: List<String>, teacher: JSONObject): String {
            val text = teacher.optJSONObject("text")?.getString("sha256")
            val onnx = teacher.optJSONObject("onnx")?.let { reading(it) } ?: ""
            // JSON with sorted keys, no spaces and ASCII escapes.
            return sha256(
                ("{\"classes\":[${classes.joinToString(",", transform = ::quoted)}]," +
                    "\"files\":${mapped(teacher.getJSONObject("files"))},$onnx" +
                    "\"output\":${quoted(teacher.getString("output"))}," +
                    "\"text\":${text?.let(::quoted) ?: "null"}}").toByteArray()
            )
        }

        /** How an ONNX file's output becomes logits. */
        private fun reading(onnx: JSONObject): String {
            // Eight bytes in hex: Python writes decimals in another way.
            val clip = "%016x".format(onnx.getDouble("clip").toRawBits())
            val inputs = onnx.optJSONObject("inputs")
                ?.let { "\"inputs\":${mapped(it)}," } ?: ""
            return "\"onnx\":{\"clip\":\"$clip\",$inputs" +
                "\"output\":${quoted(onnx.getString("output"))}," +
                "\"outputs\":${quoted(onnx.getString("outputs"))}},"
        }

        /** Texts by name as JSON, sorted. */
        private fun mapped(json: JSONObject): String {
            val names = mutableListOf<String>()
            for (name in json.keys()) names.add(name as String)
            val listed = names.sorted().joinToString(",") {
                "${quoted(it)}:${quoted(json.getString(it))}"
            }
            return "{$listed}"
        }

        private fun check(fits: Boolean, key: String, expected: String) {
            if (!fits) throw BundleException(
                "manifest.json is not valid at $key: expected $expected."
            )
        }

        private fun isInside(path: String) =
            !path.startsWith("/") && '\\' !in path && ':' !in path &&
                path.split("/").none { it in listOf("", ".", "..") }
    }
}

internal fun sha256(content: ByteArray): String =
    MessageDigest.getInstance("SHA-256").digest(content)
        .joinToString("") { "%02x".format(it.toInt() and 0xff) }

internal fun list(json: Any?): List<Any?> =
    if (json is JSONArray) (0 until json.length()).map { json.opt(it) } else emptyList()

private fun texts(json: Any?): List<String>? {
    val values = list(json)
    val texts = values.filterIsInstance<String>()
    return if (texts.size == values.size) texts else null
}

/** A text as JSON in ASCII, as Python's `json` writes it. */
internal fun quoted(text: String): String = buildString {
    append('"')
    for (one in text) when {
        one == '"' -> append("\\\"")
        one == '\\' -> append("\\\\")
        one == '\n' -> append("\\n")
        one == '\r' -> append("\\r")
        one == '\t' -> append("\\t")
        one == '\b' -> append("\\b")
        one == '\u000c' -> append("\\f")
        one < ' ' || one > '~' -> append("\\u%04x".format(one.code))
        else -> append(one)
    }
    append('"')
}
