//! Which errors of Kinesis are worth a retry. Names only: whoever calls Kinesis has the SDK.

/// Errors that end only when a person does something: no such stream, no permission, a wrong key.
const LASTING: [&str; 12] = [
    "AccessDeniedException",
    "IncompleteSignature",
    "InvalidArgumentException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSNotFoundException",
    "KMSOptInRequired",
    "ResourceNotFoundException",
    "UnrecognizedClientException",
    "ValidationException",
];

/// Whether a call that failed with this code fails again until a person does something.
pub fn is_lasting(code: &str) -> bool {
    LASTING.contains(&code)
}
