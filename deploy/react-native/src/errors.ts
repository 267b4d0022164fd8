/** The bundle cannot be used here. */
export class BundleError extends Error {
  override name = "BundleError";
}

/** The teacher gave no valid answer. */
export class TeacherError extends Error {
  override name = "TeacherError";
}
