//! The forms that requests send, as the description of the API has them.

use utoipa::ToSchema;

/// Photos to recognise: JPEG, PNG or WebP.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a form")]
pub struct Photos {
    /// One photo or several.
    #[schema(value_type = Vec<String>, format = Binary)]
    myfile: Vec<Vec<u8>>,
}

/// A person to add.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a form")]
pub struct NewPerson {
    /// The person's name.
    name: String,
    /// Photos of the person: JPEG, PNG or WebP.
    #[schema(value_type = Vec<String>, format = Binary)]
    photos: Vec<Vec<u8>>,
}

/// A photo for CompreFace's endpoints; or the same field in JSON, in base64.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a form")]
pub struct PhotoFile {
    /// JPEG, PNG or WebP.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Two photos to compare; or the same fields in JSON, in base64.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a form")]
pub struct VerificationPhotos {
    /// A photo with one face.
    #[schema(value_type = String, format = Binary)]
    source_image: Vec<u8>,
    /// A photo with any number of faces.
    #[schema(value_type = String, format = Binary)]
    target_image: Vec<u8>,
}
