//! What the errors of SQS, S3 and EC2 mean to Rollcall: the one place that knows their codes.
//!
//! Codes are from the API references: "Common errors" and "Errors" of each action of SQS and S3, "Error codes for the
//! Amazon EC2 API". A code that is not listed is judged by its HTTP status.

use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
};

use crate::cloud::CloudError;

/// The meaning of a failed call; `what` names what was called on, as in "queue jobs".
pub fn classify<E>(what: &str, error: SdkError<E, HttpResponse>) -> CloudError
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
            CloudError::Invalid(format!("{what}: the request cannot be made: {}", DisplayErrorContext(&error)))
        }
        // Whether the call was applied is unknown.
        _ => CloudError::Unavailable(format!("{what}: {}", DisplayErrorContext(&error))),
    }
}

/// The error code of a failed call, or nothing where none came.
pub fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    error.as_service_error().and_then(|e| e.code()).unwrap_or_default()
}

/// The meaning of an error code. `status`: of the HTTP answer, 0 where there is none of its own (an entry of a batch).
pub fn classify_code(what: &str, code: &str, message: &str, status: u16) -> CloudError {
    // The query protocol of SQS puts its name before some codes, the JSON protocol its namespace.
    let code = code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code);
    let code = code.rsplit('#').next().unwrap_or(code);
    let text = match (code, message) {
        ("", "") => format!("{what}: HTTP status {status}"),
        (code, "") => format!("{what}: {code}"),
        ("", message) => format!("{what}: {message}"),
        (code, message) => format!("{what}: {code}: {message}"),
    };
    match code {
        "NonExistentQueue" | "QueueDoesNotExist" | "NoSuchKey" | "NoSuchBucket" | "NotFound"
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
        // SQS has no code of its own for a receipt that has run out.
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
        // This type is not offered in this zone.
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
    fn codes_come_before_the_status() {
        // Lost capacity is a 500 and a full bucket of tokens a 503; neither is a fault of the server.
        assert!(matches!(kind("InsufficientInstanceCapacity", "", 500), CloudError::NoCapacity(_)));
        assert_eq!(kind("RequestLimitExceeded", "", 503), CloudError::Throttled);
        assert!(matches!(kind("AWS.SimpleQueueService.NonExistentQueue", "", 400), CloudError::NotFound(_)));
        assert!(matches!(kind("com.amazonaws.sqs#QueueDoesNotExist", "", 400), CloudError::NotFound(_)));
    }

    #[test]
    fn an_expired_receipt_is_a_conflict_and_a_wrong_one_is_not() {
        let expired = "Value x for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.";
        assert!(matches!(kind("InvalidParameterValue", expired, 400), CloudError::Conflict(_)));
        assert!(matches!(kind("ReceiptHandleIsInvalid", "not a handle", 400), CloudError::Invalid(_)));
    }

    #[test]
    fn an_unknown_code_is_judged_by_its_status() {
        assert!(matches!(kind("Novel", "", 400), CloudError::Invalid(_)));
        assert!(matches!(kind("Novel", "", 403), CloudError::Denied(_)));
        assert!(matches!(kind("", "", 404), CloudError::NotFound(_)));
        assert!(matches!(kind("", "", 412), CloudError::Conflict(_)));
        assert_eq!(kind("", "", 429), CloudError::Throttled);
        assert!(matches!(kind("Novel", "", 502), CloudError::Unavailable(_)));
    }
}
