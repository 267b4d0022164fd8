// Runs a bundle's student and gate on Android.
//
// Gradle: implementation("com.google.ai.edge.litert:litert:1.4.0")
// Assets: the bundle's student.tflite, and manifest.json for the class names.
//
// Neither compiled nor run where it was written.

import java.nio.ByteBuffer
import org.tensorflow.lite.Interpreter

/** One example's answer. `delegate`: ask the teacher, the student is unsure. */
data class StudentAnswer(
    val probabilities: FloatArray,
    val score: Float,
    val delegate: Boolean,
)

/**
 * The student and its gate. An interpreter is not thread-safe: make one
 * per thread.
 *
 * @param model student.tflite, mapped or in a direct buffer.
 * @param classes the length of the manifest's `classes`.
 */
class StudentCascade(model: ByteBuffer, private val classes: Int) : AutoCloseable {
    private val interpreter = Interpreter(model)

    /**
     * @param input one example with a batch axis, named and shaped as in the
     *     manifest's `input`, such as Array(1) { Array(28) { ... } }.
     */
    fun predict(input: Any, name: String = "input"): StudentAnswer {
        val probabilities = Array(1) { FloatArray(classes) }
        val score = FloatArray(1)
        val delegate = IntArray(1)
        interpreter.runSignature(
            mapOf(name to input),
            mapOf(
                "probabilities" to probabilities,
                "score" to score,
                "delegate" to delegate,
            ),
            "serving_default",
        )
        return StudentAnswer(probabilities[0], score[0], delegate[0] != 0)
    }

    override fun close() = interpreter.close()
}
