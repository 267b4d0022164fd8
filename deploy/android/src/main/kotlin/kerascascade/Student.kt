package kerascascade

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer

/**
 * The student and its gate in LiteRT's `CompiledModel`, row by row. The file is
 * never resized. (`student_batch.tflite` is for machines that do resize.) One
 * thread at a time uses a `Student`.
 */
class Student private constructor(
    private val model: CompiledModel,
    private val manifest: Manifest,
) : AutoCloseable {
    private val spec = manifest.studentInput.single()
    private val classes = manifest.classes.size
    private val input: TensorBuffer = model.createInputBuffer(spec.name, SIGNATURE)
    private val outputs: Map<String, TensorBuffer> =
        OUTPUTS.associateWith { model.createOutputBuffer(it, SIGNATURE) }

    /** @param row numbers of one row, in row-major order. */
    @Synchronized
    fun run(row: FloatArray): StudentAnswer {
        manifest.input.single().check(row)
        when (spec.dtype) {
            "float32" -> input.writeFloat(row)
            "int32" -> input.writeInt(IntArray(row.size) { row[it].toInt() })
            // LiteRT writes bytes, signed or not, by one method.
            "int8", "uint8" -> input.writeInt8(spec.bytes(row))
            else -> throw BundleException(
                "Expected an input of float32, int32, int8 or uint8. Received: " +
                    "${spec.dtype}."
            )
        }
        model.run(mapOf(spec.name to input), outputs, SIGNATURE)
        val probabilities = outputs.getValue("probabilities").readFloat()
        check(probabilities.size == classes) {
            "Expected $classes probabilities. Received: ${probabilities.size}."
        }
        return StudentAnswer(
            probabilities,
            outputs.getValue("score").readFloat()[0],
            outputs.getValue("delegate").readInt()[0] != 0,
        )
    }

    override fun close() {
        input.close()
        outputs.values.forEach { it.close() }
        model.close()
    }

    companion object {
        private const val SIGNATURE = "serving_default"
        private val OUTPUTS = listOf("probabilities", "score", "delegate")

        /**
         * Opens a student in a folder of the app's assets.
         *
         * @param accelerator other than the CPU: its scores may round otherwise
         *     than those that the threshold is for, docs/runtimes.md.
         */
        fun open(
            assets: AssetManager,
            folder: String,
            manifest: Manifest,
            accelerator: Accelerator = Accelerator.CPU,
        ): Student {
            if (manifest.readsTexts || manifest.studentInput.size != 1) {
                throw BundleException(
                    "Expected a student with one input of numbers. This example " +
                        "has no tokenizer."
                )
            }
            val path = "$folder/${manifest.studentFile}"
            manifest.checkStudent(assets.open(path).use { it.readBytes() })
            val model =
                CompiledModel.create(assets, path, CompiledModel.Options(accelerator))
            return Student(model, manifest)
        }
    }
}
