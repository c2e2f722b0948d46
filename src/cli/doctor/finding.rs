//! The finding of a check, and the remedy for each kind of error.

use crate::cloud::CloudError;

/// The result of one check.
pub(super) struct Finding {
    /// What was checked.
    pub(super) what: String,
    /// The healthy state, or the fault and its remedy.
    pub(super) result: Result<String, (String, String)>,
    /// Whether a fault is only near: it does not count as one.
    pub(super) is_warning: bool,
}

impl Finding {
    /// Creates a finding.
    pub(super) fn new(what: impl Into<String>, result: Result<impl Into<String>, (String, String)>) -> Self {
        Self { what: what.into(), result: result.map(Into::into), is_warning: false }
    }

    /// Creates a finding of what may soon be a fault, with a remedy.
    pub(super) fn warning(what: impl Into<String>, detail: String, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), result: Err((detail, remedy.into())), is_warning: true }
    }

    /// Returns whether what was checked is a fault.
    pub(super) fn is_fault(&self) -> bool {
        self.result.is_err() && !self.is_warning
    }
}

/// Returns an error's message and its remedy. `missing` is the remedy for `NotFound`.
pub(super) fn remedy(error: CloudError, missing: &str) -> (String, String) {
    let text = error.to_string();
    let skewed = ["TimeTooSkewed", "RequestExpired"].iter().any(|code| text.contains(code));
    let remedy = match &error {
        CloudError::Denied(_) if skewed => "set this machine's clock: run a time service such as chrony",
        CloudError::Denied(_) => {
            "give this role the permissions that it has in deploy/cloudformation.yaml, or use other credentials"
        }
        CloudError::NotFound(_) => missing,
        CloudError::Invalid(_) => "correct what the message names",
        CloudError::Quota(_) => "ask AWS for a higher limit, or lower fleet.max_instances",
        CloudError::NoCapacity(_) => "add more types to aws.instance_types or more subnets to aws.subnets",
        CloudError::Unavailable(_) => "check the network, aws.region and AWS_ENDPOINT_URL_*",
        CloudError::Throttled | CloudError::Conflict(_) => "try again in a minute",
    };
    (text, remedy.to_owned())
}
