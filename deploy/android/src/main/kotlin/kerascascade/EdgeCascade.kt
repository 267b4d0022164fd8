// A keras_cascade bundle on Android: the student here, the teacher anywhere.
//
// Gradle: implementation("com.google.ai.edge.litert:litert:2.3.0")
// Assets: the bundle without `teacher/`, in a folder.
//
// Compiled and run here, on a JVM with kotlinc: all but Student.kt and
// EdgeCascade.kt, against deploy/vectors.json. Those two were compiled with the
// Kotlin sources of LiteRT 2.x. Not run on Android.

package kerascascade

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator

/**
 * Answers rows: the student's answer where it is sure, else the teacher's.
 *
 * @param onFailure what a row gets that the teacher does not answer.
 * @param operatingPoint name of one of the bundle's, or `null`: the default.
 * @param queue keeps a row on disk and returns its id, for [OnFailure.QUEUE].
 */
class EdgeCascade(
    val manifest: Manifest,
    private val student: Student,
    private val teacher: HttpTeacher?,
    onFailure: OnFailure = OnFailure.ANSWER,
    operatingPoint: String? = null,
    private val queue: ((FloatArray) -> String)? = null,
) : AutoCloseable {
    private val decision =
        Decision(manifest.classes, manifest.operatingPoint(operatingPoint), onFailure)

    /** Answers one row, `row` in the manifest's range. Not in the main thread. */
    fun predict(row: FloatArray): Prediction = decision.decide(
        student.run(row),
        {
            teacher?.logits(row)
                ?: throw TeacherException("This cascade has no teacher.")
        },
        queue?.let { keep -> { keep(row) } },
    )

    override fun close() = student.close()

    companion object {
        /**
         * Opens a bundle in a folder of the app's assets.
         *
         * @param teacher URL such as "https://teacher.example/v2/models/teacher".
         * @param sha256 of `manifest.json`: pins one bundle.
         */
        fun open(
            assets: AssetManager,
            folder: String,
            teacher: String? = null,
            token: String? = null,
            onFailure: OnFailure = OnFailure.ANSWER,
            operatingPoint: String? = null,
            queue: ((FloatArray) -> String)? = null,
            accelerator: Accelerator = Accelerator.CPU,
            sha256: String? = null,
        ): EdgeCascade {
            val content = assets.open("$folder/manifest.json").use { it.readBytes() }
            val manifest = Manifest.read(content, sha256)
            manifest.operatingPoint(operatingPoint) // fails before anything opens
            return EdgeCascade(
                manifest,
                Student.open(assets, folder, manifest, accelerator),
                teacher?.let { HttpTeacher(it, manifest, token) },
                onFailure,
                operatingPoint,
                queue,
            )
        }
    }
}
