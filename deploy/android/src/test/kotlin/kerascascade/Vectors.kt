// Runs deploy/vectors.json: `java ... kerascascade.VectorsKt vectors.json`.

package kerascascade

import com.sun.net.httpserver.HttpServer
import java.io.File
import java.net.InetSocketAddress
import kotlin.math.abs
import org.json.JSONArray
import org.json.JSONObject

private var passed = 0

private fun test(name: String, run: () -> Unit) {
    try {
        run()
        passed++
    } catch (error: Throwable) {
        println("FAILED $name: $error")
        System.exit(1)
    }
}

private fun expect(fits: Boolean, received: Any?) {
    if (!fits) throw AssertionError("received $received")
}

private inline fun <reified E : Throwable> raises(part: String, run: () -> Unit) {
    val message = try {
        run()
        throw AssertionError("no error")
    } catch (error: Throwable) {
        if (error !is E) throw error
        error.message
    }
    expect(message != null && part in message, message)
}

private fun floats(json: Any?) =
    list(json).map { (it as Number).toFloat() }.toFloatArray()

private fun text(json: JSONObject, key: String): String? =
    if (json.isNull(key)) null else json.getString(key)

fun main(arguments: Array<String>) {
    val vectors = JSONObject(File(arguments[0]).readText())
    val content = vectors.getJSONObject("manifest").toString().toByteArray()
    val manifest = Manifest.read(content)
    test("identity") {
        expect(
            manifest.teacherIdentity == vectors.getString("identity"),
            manifest.teacherIdentity
        )
    }
    test("thresholds") {
        val expected = vectors.getJSONObject("thresholds")
        for (point in manifest.operatingPoints) {
            val one = expected.get(point.name)
            val values = list(one).ifEmpty { listOf(one) }
            values.forEachIndexed { label, value ->
                val made = point.float(label)
                expect(made.toDouble() == (value as Number).toDouble(), made)
            }
        }
    }
    for (one in list(vectors.get("teachers"))) {
        val case = one as JSONObject
        test("the identity and output of ${case.getString("why")}") {
            val made = Manifest.read(case.getJSONObject("manifest").toString().toByteArray())
            expect(made.teacherIdentity == text(case, "identity"), made.teacherIdentity)
            expect(made.teacherOutput == case.getString("output"), made.teacherOutput)
        }
    }
    for (one in list(vectors.get("decisions"))) decides(one as JSONObject, manifest)
    for (one in list(vectors.get("refused"))) {
        val case = one as JSONObject
        test("refuses ${case.getString("why")}") {
            raises<BundleException>(case.getString("message")) {
                Manifest.read(case.getJSONObject("manifest").toString().toByteArray())
            }
        }
    }
    test("refuses another manifest, file, operating point and policy") {
        raises<BundleException>("pinned") { Manifest.read(content, "0".repeat(64)) }
        raises<BundleException>("JSON") { Manifest.read("{".toByteArray()) }
        manifest.checkStudent("student".toByteArray())
        raises<BundleException>("student") { manifest.checkStudent(ByteArray(1)) }
        raises<BundleException>("frugal") { manifest.operatingPoint("other") }
        raises<IllegalArgumentException>("abstain") { OnFailure.named("other") }
    }
    for (one in list(vectors.get("rows"))) {
        val case = one as JSONObject
        val row = list(case.get("row"))
            .map { (it as? Number)?.toFloat() ?: Float.NaN }.toFloatArray()
        val error = text(case, "error")
        test("checks a row: $error") {
            val spec = manifest.input.single()
            if (error == null) spec.check(row)
            else raises<IllegalArgumentException>(error) { spec.check(row) }
        }
    }
    for (one in list(vectors.get("quantizations"))) {
        val case = one as JSONObject
        val type = case.getString("dtype")
        val quantization = case.getJSONObject("quantization")
        test("integers of $type") {
            val spec = InputSpec(
                "x", listOf(null, 9), type, null,
                quantization.getDouble("scale").toFloat(),
                quantization.getDouble("zero_point").toFloat(),
            )
            val made = spec.bytes(floats(case.get("values"))).map {
                if (type == "int8") it.toInt() else it.toInt() and 0xff
            }
            val integers = list(case.get("integers")).map { (it as Number).toInt() }
            expect(made == integers, made)
        }
    }
    for (one in list(vectors.get("answers"))) reads(one as JSONObject, manifest)
    test("any teacher is asked where no identity is known") {
        val cases = list(vectors.get("teachers")).map { it as JSONObject }
        val unknown = cases.first { it.isNull("identity") }.getJSONObject("manifest")
        for (one in list(vectors.get("answers")).take(3)) {
            val case = JSONObject((one as JSONObject).toString())
            case.put("error", JSONObject.NULL)
            case.put("logits", JSONArray(listOf(3.0, -1.0, 0.5)))
            reads(case, Manifest.read(unknown.toString().toByteArray()))
        }
    }
    println("$passed passed, 0 failed")
}

private fun decides(case: JSONObject, manifest: Manifest) {
    val student = case.getJSONObject("student")
    val teacher = case.optJSONObject("teacher")
    val expected = case.getJSONObject("expected")
    val decision = Decision(
        manifest.classes,
        manifest.operatingPoint(case.getString("operating_point")),
        OnFailure.named(case.getString("on_failure")),
    )
    val decide = {
        decision.decide(
            StudentAnswer(
                floats(student.get("probabilities")),
                if (student.isNull("score")) Float.NaN
                else student.getDouble("score").toFloat(),
                student.getInt("delegate") != 0,
            ),
            {
                val error = teacher?.opt("error") as String?
                if (error != null) throw TeacherException(error)
                floats(teacher!!.get("logits"))
            },
            { "id" },
        )
    }
    test("decides ${case.getString("name")}") {
        if (expected.has("raises")) {
            raises<TeacherException>(expected.getString("raises")) { decide() }
        } else {
            val made = decide()
            expect(made.source.text == expected.getString("source"), made.source)
            expect(made.label == expected.getInt("label"), made.label)
            expect(made.name == text(expected, "name"), made.name)
            expect(made.teacherError == text(expected, "error"), made.teacherError)
            expect((made.id == "id") == (made.source == Source.QUEUED), made.id)
            floats(expected.get("probabilities")).forEachIndexed { i, value ->
                expect(abs(made.probabilities[i] - value) < 1e-6, made.probabilities[i])
            }
        }
    }
}

private fun reads(case: JSONObject, manifest: Manifest) {
    val server = HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0)
    var asked: JSONObject? = null
    server.createContext("/v2/models/teacher/infer") { exchange ->
        asked = JSONObject(String(exchange.requestBody.readBytes()))
        val headers = case.getJSONObject("headers")
        for (name in headers.keys()) {
            exchange.responseHeaders.add(name as String, headers.getString(name))
        }
        val body = case.getString("body").toByteArray()
        exchange.sendResponseHeaders(case.getInt("status"), body.size.toLong())
        exchange.responseBody.use { it.write(body) }
    }
    server.start()
    val url = "http://127.0.0.1:${server.address.port}/v2/models/teacher"
    val teacher = HttpTeacher(url, manifest, "secret")
    val row = floatArrayOf(0f, 0.25f, 0.5f, 1f)
    test("reads ${case.getString("why")}") {
        val error = text(case, "error")
        if (error != null) {
            raises<TeacherException>(error) { teacher.logits(row) }
        } else {
            val logits = teacher.logits(row)
            expect(logits.contentEquals(floats(case.get("logits"))), logits.toList())
            val input = list(asked!!.get("inputs")).single() as JSONObject
            expect(floats(input.get("data")).contentEquals(row), input)
            expect(list(input.get("shape")) == listOf(1, 2, 2, 1), input)
        }
    }
    server.stop(0)
    test("nobody there") {
        raises<TeacherException>("cannot be reached") { teacher.logits(row) }
    }
}
