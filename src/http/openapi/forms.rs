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
    /// Which face of a single photo, if not the largest: its `bbox` in a recognition, as `x,y,width,height`.
    #[schema(rename = "box", nullable = false)]
    face: Option<String>,
}

/// A photo with a face that is not a person's.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a form")]
pub struct RejectedPhoto {
    /// The photo: JPEG, PNG or WebP.
    #[schema(value_type = String, format = Binary)]
    photos: Vec<u8>,
    /// Which face, if not the largest: its `bbox` in a recognition, as `x,y,width,height`.
    #[schema(rename = "box", nullable = false)]
    face: Option<String>,
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
