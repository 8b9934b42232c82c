//! Size limits of requests; docs/LIMITS.md lists them.

/// The maximum number of parameters that an event carries.
pub const MAX_PARAMETERS: usize = 20;
/// The maximum length of a parameter's name in bytes: the same as in core data.
pub const MAX_NAME_BYTES: usize = adtrack_proto::program::MAX_PARAMETER_NAME_BYTES;
/// The maximum length of a parameter's value in bytes.
pub const MAX_VALUE_BYTES: usize = 512;
/// The maximum length of a query in bytes: as many parameters as an event carries, of the greatest length, with
/// every byte percent-encoded. Free parameters beyond it are left out.
pub const MAX_QUERY_BYTES: usize = MAX_PARAMETERS * (3 * (MAX_NAME_BYTES + MAX_VALUE_BYTES) + 2);
/// The maximum lengths of a conversion's texts in bytes.
pub const MAX_EVENT_NAME_BYTES: usize = 64;
pub const MAX_TRANSACTION_ID_BYTES: usize = 128;
pub const MAX_AMOUNT_BYTES: usize = 64;
/// The maximum length at which `User-Agent` and `Referer` are kept, in bytes.
pub const MAX_KEPT_HEADER_BYTES: usize = 512;
/// The maximum size of all headers' names and values together, in bytes: several times what browsers send,
/// including cookies.
pub const MAX_ALL_HEADERS_BYTES: usize = 32_768;
