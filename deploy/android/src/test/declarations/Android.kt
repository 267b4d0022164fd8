// What EdgeCascade.kt and Student.kt use of Android.

package android.content.res

import java.io.InputStream

abstract class AssetManager {
    abstract fun open(fileName: String): InputStream
}
