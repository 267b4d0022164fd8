// A library module of an Android project.
plugins {
    id("com.android.library")
    kotlin("android")
}

android {
    namespace = "kerascascade"
    compileSdk = 36
    defaultConfig { minSdk = 26 }
}

dependencies {
    implementation("com.google.ai.edge.litert:litert:2.3.0")
}
