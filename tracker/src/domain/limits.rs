//! The sizes that a request may have; docs/LIMITS.md lists them.

/// The longest query, in bytes: far above what every parameter at its own limit takes. A longer one has
/// the whole URI refused, or is cut by a lenient endpoint.
pub const MAX_QUERY_BYTES: usize = 8_192;
/// The most parameters that an event carries.
pub const MAX_PARAMETERS: usize = 20;
/// The longest name of a parameter, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The longest value of a parameter, in bytes.
pub const MAX_VALUE_BYTES: usize = 512;
/// The longest `User-Agent` and `Referer` that are kept, in bytes.
pub const MAX_HEADER_BYTES: usize = 512;
/// The most bytes that names and values of all headers may have together: several times what browsers
/// send, cookies included.
pub const MAX_HEADERS_BYTES: usize = 32_768;
