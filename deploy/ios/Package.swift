// swift-tools-version: 5.9
// A keras_cascade bundle on iOS and macOS: the student here, the teacher
// anywhere.
//
// Parsed here, by the tree-sitter grammar of Swift. Neither compiled nor run
// here: there was no Swift compiler.

import PackageDescription

let package = Package(
  name: "KerasCascade",
  platforms: [.iOS(.v15), .macOS(.v12)],
  products: [
    // What decides, without a runtime; and the student in LiteRT.
    .library(name: "KerasCascade", targets: ["KerasCascade"]),
    .library(name: "KerasCascadeLiteRT", targets: ["KerasCascadeLiteRT"]),
  ],
  dependencies: [
    // Its package has unsafe flags, which SwiftPM takes of a revision alone.
    .package(
      url: "https://github.com/google-ai-edge/LiteRT",
      revision: "f67457790c9c2ab67347d6fe53270e8d3df20868")
  ],
  targets: [
    .target(name: "KerasCascade"),
    .target(
      name: "KerasCascadeLiteRT",
      dependencies: ["KerasCascade", .product(name: "LiteRT", package: "LiteRT")]),
    .testTarget(name: "KerasCascadeTests", dependencies: ["KerasCascade"]),
  ]
)
