//! The codes of errors of CompreFace 1.2 (`CommonExceptionCode` in its source) that have a meaning here.

/// No code of its own.
pub(super) const UNDEFINED: u16 = 0;
/// The key may not do this.
pub(super) const DENIED: u16 = 1;
/// A field of the body is empty or missing.
pub(super) const EMPTY_FIELD: u16 = 5;
/// There is no service with this key.
pub(super) const NO_SERVICE: u16 = 10;
/// There is no such image.
pub(super) const NO_IMAGE: u16 = 11;
/// A header is missing.
pub(super) const MISSING_HEADER: u16 = 20;
/// The file is not an image that can be read, or not base64.
pub(super) const BAD_FILE: u16 = 21;
/// A parameter or a name is invalid.
pub(super) const INVALID: u16 = 26;
/// No face was found in the image.
pub(super) const NO_FACE: u16 = 28;
/// More than one face was found in the image.
pub(super) const TOO_MANY_FACES: u16 = 31;
/// A parameter is missing.
pub(super) const MISSING_PARAMETER: u16 = 33;
/// A part of the form is missing.
pub(super) const MISSING_PART: u16 = 34;
/// An argument is incorrect.
pub(super) const BAD_ARGUMENT: u16 = 36;
/// The service that computes embeddings has failed.
pub(super) const FAILED: u16 = 41;
/// There is no such subject.
pub(super) const NO_SUBJECT: u16 = 42;
/// The subject exists.
pub(super) const SUBJECT_EXISTS: u16 = 43;
/// There is no example with this id.
pub(super) const NO_EXAMPLE: u16 = 44;
