//! Maps errors of the AWS SDK to [`CloudError`]. Callers compare codes themselves only where a code has a special
//! meaning for one call.
//!
//! The codes are those of the API references: "Common errors" and the "Errors" of each action for SQS, S3 and CloudWatch Logs, "Error
//! codes for the Amazon EC2 API". An unlisted code is classified by its HTTP status.

use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
};

use crate::cloud::CloudError;

/// Classifies a failed call. `what` names the resource in the message, as in "queue jobs".
pub(super) fn classify<E>(what: &str, error: SdkError<E, HttpResponse>) -> CloudError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    match &error {
        SdkError::ServiceError(service) => {
            let error = service.err();
            classify_code(what, error.code().unwrap_or_default(), error.message().unwrap_or_default(), status)
        }
        SdkError::ConstructionFailure(_) => {
            CloudError::Invalid(format!("{what}: the request cannot be built: {}", DisplayErrorContext(&error)))
        }
        // There is no usable response, so the call may have been applied.
        _ => CloudError::Unavailable(format!("{what}: {}", DisplayErrorContext(&error))),
    }
}

/// Returns the error code of a failed call, empty if there is none.
pub(super) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    error.as_service_error().and_then(|e| e.code()).unwrap_or_default()
}

/// Classifies an error code. `status` is the HTTP status of the response, 0 without one.
pub(super) fn classify_code(what: &str, code: &str, message: &str, status: u16) -> CloudError {
    // The query protocol of SQS prefixes some codes with the service's name; the JSON protocol prefixes all of them
    // with a namespace.
    let code = code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code);
    let code = code.rsplit('#').next().unwrap_or(code);
    // S3 passes on the errors of the key that encrypts an object.
    let code = code.strip_prefix("KMS.").unwrap_or(code);
    let text = match (code, message) {
        ("", "") => format!("{what}: HTTP status {status}"),
        (code, "") => format!("{what}: {code}"),
        ("", message) => format!("{what}: {message}"),
        (code, message) => format!("{what}: {code}: {message}"),
    };
    match code {
        "NonExistentQueue"
        | "QueueDoesNotExist"
        | "NoSuchKey"
        | "NoSuchBucket"
        | "NotFound"
        | "ResourceNotFoundException"
        | "InvalidInstanceID.NotFound" => CloudError::NotFound(text),

        "PreconditionFailed"
        | "ConditionalRequestConflict"
        | "OperationAborted"
        | "MessageNotInflight"
        | "IncorrectInstanceState"
        | "IncorrectState"
        | "UnsupportedOperation"
        | "IdempotentParameterMismatch"
        | "IdempotentInstanceTerminated" => CloudError::Conflict(text),
        // SQS has no separate code for an expired receipt.
        "InvalidParameterValue" | "ReceiptHandleIsInvalid" if expired(message) => CloudError::Conflict(text),

        "AccessDenied"
        | "AccessDeniedException"
        | "AllAccessDisabled"
        | "AuthFailure"
        | "Blocked"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidSecurity"
        | "MissingAuthenticationToken"
        | "OptInRequired"
        | "PendingVerification"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch"
        | "UnauthorizedOperation"
        | "UnrecognizedClientException" => CloudError::Denied(text),

        "EC2ThrottledException"
        | "OverLimit"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequestsException" => CloudError::Throttled,

        "InsufficientCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientInstanceCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientFreeAddressesInSubnet"
        | "SpotMaxPriceTooLow"
        // The instance type is not offered in this zone.
        | "Unsupported" => CloudError::NoCapacity(text),

        "InstanceLimitExceeded"
        | "MaxSpotInstanceCountExceeded"
        | "ResourceLimitExceeded"
        | "VcpuLimitExceeded"
        | "VolumeLimitExceeded" => CloudError::Quota(text),

        "InternalError" | "InternalFailure" | "InternalServiceError" | "RequestTimeout" | "ServiceUnavailable"
        | "Unavailable" => CloudError::Unavailable(text),

        _ => match status {
            404 => CloudError::NotFound(text),
            401 | 403 => CloudError::Denied(text),
            409 | 412 => CloudError::Conflict(text),
            429 => CloudError::Throttled,
            400..500 => CloudError::Invalid(text),
            _ => CloudError::Unavailable(text),
        },
    }
}

fn expired(message: &str) -> bool {
    message.contains("expired") || message.contains("not available for visibility timeout change")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str, message: &str, status: u16) -> CloudError {
        classify_code("x", code, message, status)
    }

    #[test]
    fn codes_take_precedence_over_the_status() {
        // EC2 reports missing capacity with status 500 and throttling with 503.
        assert!(matches!(kind("InsufficientInstanceCapacity", "", 500), CloudError::NoCapacity(_)));
        assert_eq!(kind("RequestLimitExceeded", "", 503), CloudError::Throttled);
        assert!(matches!(kind("AWS.SimpleQueueService.NonExistentQueue", "", 400), CloudError::NotFound(_)));
        assert!(matches!(kind("com.amazonaws.sqs#QueueDoesNotExist", "", 400), CloudError::NotFound(_)));
    }

    #[test]
    fn the_codes_of_each_service_are_classified() {
        let name = |error: CloudError| match error {
            CloudError::NotFound(_) => "not found",
            CloudError::Conflict(_) => "conflict",
            CloudError::Denied(_) => "denied",
            CloudError::Throttled => "throttled",
            CloudError::NoCapacity(_) => "no capacity",
            CloudError::Quota(_) => "quota",
            CloudError::Unavailable(_) => "unavailable",
            CloudError::Invalid(_) => "invalid",
        };
        for (expected, codes) in [
            ("not found", "NoSuchKey NoSuchBucket NonExistentQueue InvalidInstanceID.NotFound"),
            ("conflict", "PreconditionFailed ConditionalRequestConflict MessageNotInflight IncorrectInstanceState"),
            ("conflict", "UnsupportedOperation IdempotentParameterMismatch IdempotentInstanceTerminated"),
            ("denied", "AccessDenied UnauthorizedOperation ExpiredToken RequestExpired InvalidClientTokenId"),
            (
                "throttled",
                "RequestLimitExceeded RequestThrottled SlowDown ThrottlingException KMS.ThrottlingException OverLimit",
            ),
            (
                "no capacity",
                "InsufficientInstanceCapacity InsufficientFreeAddressesInSubnet Unsupported SpotMaxPriceTooLow",
            ),
            ("quota", "VcpuLimitExceeded InstanceLimitExceeded MaxSpotInstanceCountExceeded"),
            ("unavailable", "InternalError ServiceUnavailable RequestTimeout"),
        ] {
            for code in codes.split(' ') {
                assert_eq!(name(kind(code, "", 400)), expected, "{code}"); // the status alone means invalid
            }
        }
    }

    #[test]
    fn an_expired_receipt_is_a_conflict_and_a_malformed_one_is_not() {
        let expired = "Value x for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.";
        assert!(matches!(kind("InvalidParameterValue", expired, 400), CloudError::Conflict(_)));
        let hidden = "Message does not exist or is not available for visibility timeout change.";
        assert!(matches!(kind("InvalidParameterValue", hidden, 400), CloudError::Conflict(_)));
        assert!(matches!(kind("ReceiptHandleIsInvalid", "not a handle", 400), CloudError::Invalid(_)));
    }

    #[test]
    fn an_unknown_code_is_classified_by_its_status() {
        assert!(matches!(kind("Novel", "", 400), CloudError::Invalid(_)));
        assert!(matches!(kind("Novel", "", 403), CloudError::Denied(_)));
        assert!(matches!(kind("", "", 404), CloudError::NotFound(_)));
        assert!(matches!(kind("", "", 412), CloudError::Conflict(_)));
        assert_eq!(kind("", "", 429), CloudError::Throttled);
        assert!(matches!(kind("Novel", "", 502), CloudError::Unavailable(_)));
    }
}
