package kerascascade

import kotlin.math.exp

/** The teacher gave no valid answer. */
class TeacherException(message: String) : Exception(message)

/** Policy for delegated rows that the teacher does not answer. */
enum class OnFailure { ANSWER, ABSTAIN, RAISE, QUEUE;

    companion object {
        /** By the name that it has in Python, such as "answer". */
        fun named(name: String): OnFailure =
            entries.find { it.name.lowercase() == name }
                ?: throw IllegalArgumentException(
                    "Expected a policy out of answer, abstain, raise and queue. " +
                        "Received: $name."
                )
    }
}

/** Who answered, by the names of docs/failures.md. */
enum class Source(val text: String) {
    EDGE("edge"), CLOUD("cloud"), EDGE_FALLBACK("edge_fallback"),
    ABSTAINED("abstained"), QUEUED("queued"),
}

/** The student's outputs for one row. */
class StudentAnswer(
    val probabilities: FloatArray,
    val score: Float,
    val delegate: Boolean,
)

/**
 * One row's answer.
 *
 * @property label index of the class; -1 where nobody answered.
 * @property name of the class; `null` where nobody answered.
 * @property probabilities of whoever answered; the student's where nobody did.
 * @property teacherError why the teacher did not answer, or `null`.
 * @property id of a queued row, or `null`.
 */
class Prediction(
    val label: Int,
    val name: String?,
    val probabilities: FloatArray,
    val score: Float,
    val source: Source,
    val teacherError: String? = null,
    val id: String? = null,
)

/** Decides who answers a row, at one operating point. */
class Decision(
    private val classes: List<String>,
    private val point: OperatingPoint,
    private val onFailure: OnFailure,
) {
    fun isDelegated(student: StudentAnswer): Boolean =
        if (point.isInFile) student.delegate
        // Not `score < threshold`: a NaN score has to be delegated.
        else !(student.score >= point.float(argMax(student.probabilities)))

    /**
     * Answers one row.
     *
     * @param ask returns the teacher's logits, or throws a [TeacherException].
     * @param enqueue keeps the row on disk and returns its id.
     * @throws TeacherException with [OnFailure.RAISE].
     */
    fun decide(
        student: StudentAnswer,
        ask: () -> FloatArray,
        enqueue: (() -> String)? = null,
    ): Prediction {
        require(onFailure != OnFailure.QUEUE || enqueue != null) {
            "Expected a queue with the policy 'queue'."
        }
        val own = student.probabilities
        if (!isDelegated(student)) return answer(own, student, Source.EDGE)
        val logits = try {
            ask()
        } catch (error: TeacherException) {
            val why = error.message
            return when (onFailure) {
                OnFailure.ANSWER -> answer(own, student, Source.EDGE_FALLBACK, why)
                OnFailure.ABSTAIN ->
                    Prediction(-1, null, own, student.score, Source.ABSTAINED, why)
                OnFailure.QUEUE -> Prediction(
                    -1, null, own, student.score, Source.QUEUED, why, enqueue!!()
                )
                OnFailure.RAISE -> throw error
            }
        }
        return answer(softmax(logits), student, Source.CLOUD)
    }

    private fun answer(
        probabilities: FloatArray,
        student: StudentAnswer,
        source: Source,
        error: String? = null,
    ): Prediction {
        val label = argMax(probabilities)
        return Prediction(
            label, classes[label], probabilities, student.score, source, error
        )
    }
}

/** Index of the greatest value, the first of equal ones. */
private fun argMax(probabilities: FloatArray): Int {
    var label = 0
    for (i in probabilities.indices) {
        if (probabilities[i] > probabilities[label]) label = i
    }
    return label
}

private fun softmax(logits: FloatArray): FloatArray {
    var top = Float.NEGATIVE_INFINITY
    for (one in logits) if (one > top) top = one
    val powers = logits.map { exp(it.toDouble() - top) }
    val sum = powers.sum()
    return FloatArray(logits.size) { (powers[it] / sum).toFloat() }
}
