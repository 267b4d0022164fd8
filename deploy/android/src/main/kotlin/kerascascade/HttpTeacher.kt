package kerascascade

import java.io.IOException
import java.net.HttpURLConnection
import java.net.URL
import org.json.JSONException
import org.json.JSONObject

/**
 * A teacher behind Open Inference Protocol v2, with tensors as JSON. It is asked
 * once, without retries and circuit breaker. Call it outside of the main thread.
 *
 * @param url such as "https://teacher.example/v2/models/teacher".
 * @param token sent as a bearer token.
 * @param timeout milliseconds to connect, and between two reads.
 * @param checkIdentity answers must state the identity of the bundle's teacher,
 *     as `keras-cascade serve` does. False: any teacher is asked.
 */
class HttpTeacher(
    private val url: String,
    private val manifest: Manifest,
    private val token: String? = null,
    private val timeout: Int = 10_000,
    private val checkIdentity: Boolean = true,
) {
    private val output = manifest.teacherOutput

    /** Asks for the logits of one row; throws a [TeacherException]. */
    fun logits(row: FloatArray): FloatArray {
        try {
            val connection = URL("$url/infer").openConnection() as HttpURLConnection
            try {
                return exchange(connection, body(row))
            } finally {
                connection.disconnect()
            }
        } catch (error: IOException) {
            throw TeacherException("The teacher at $url cannot be reached ($error).")
        }
    }

    private fun body(row: FloatArray): String {
        val spec = manifest.teacherInput.first()
        val type = TYPES[spec.dtype]
            ?: throw TeacherException("The teacher's input is of type ${spec.dtype}.")
        val shape = spec.shape.drop(1).joinToString("") { ",$it" }
        return "{\"inputs\":[{\"name\":${quoted(spec.name)}," +
            "\"datatype\":\"$type\",\"shape\":[1$shape]," +
            "\"data\":[${row.joinToString(",")}]}]," +
            "\"outputs\":[{\"name\":${quoted(output)}}]}"
    }

    private fun exchange(connection: HttpURLConnection, body: String): FloatArray {
        connection.connectTimeout = timeout
        connection.readTimeout = timeout
        connection.requestMethod = "POST"
        connection.instanceFollowRedirects = false
        connection.doOutput = true
        connection.setRequestProperty("content-type", "application/json")
        if (token != null) {
            connection.setRequestProperty("authorization", "Bearer $token")
        }
        connection.outputStream.use { it.write(body.toByteArray()) }
        val status = connection.responseCode
        val stream = if (status < 400) connection.inputStream else connection.errorStream
        val text = stream?.use { String(it.readBytes(), Charsets.UTF_8) } ?: ""
        if (status != 200) throw TeacherException(
            "The teacher at $url answered status $status: ${text.take(200)}"
        )
        return read(text, connection.getHeaderField("x-cascade-teacher"))
    }

    private fun read(text: String, header: String?): FloatArray {
        val answer = try {
            JSONObject(text)
        } catch (error: JSONException) {
            JSONObject()
        }
        val inBody = answer.optJSONObject("parameters")?.opt("teacher") as? String
        checkIdentity(header ?: inBody)
        for (one in list(answer.opt("outputs"))) {
            if (one !is JSONObject || one.opt("name") != output) continue
            val values = list(one.opt("data")).flatMap {
                list(it).ifEmpty { listOf(it) }
            }
            val numbers = values.filterIsInstance<Number>().map { it.toFloat() }
            val classes = manifest.classes.size
            if (list(one.opt("shape")) == listOf(1, classes) &&
                values.size == classes && numbers.size == classes &&
                numbers.none { it.isNaN() || it.isInfinite() }
            ) return numbers.toFloatArray()
        }
        throw TeacherException(
            "The teacher's answer has no usable output '$output': expected finite " +
                "logits of one row."
        )
    }

    private fun checkIdentity(stated: String?) {
        val expected = manifest.teacherIdentity
        if (!checkIdentity || expected == null || stated == expected) return
        throw TeacherException(
            if (stated == null) "The teacher at $url does not state its identity. " +
                "Serve the bundle's teacher with `keras-cascade serve`, or pass " +
                "`checkIdentity = false`."
            else "The teacher at $url is not the bundle's. Serve this bundle's " +
                "teacher there."
        )
    }

    private companion object {
        val TYPES = mapOf(
            "float32" to "FP32", "float64" to "FP64", "int8" to "INT8",
            "int32" to "INT32", "int64" to "INT64", "uint8" to "UINT8",
        )
    }
}
