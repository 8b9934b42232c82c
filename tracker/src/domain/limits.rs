//! Size limits of requests; docs/LIMITS.md lists them.

/// The longest query, in bytes: far longer than usual parameters need. An endpoint refuses a longer one, or
/// cuts it if it is lenient.
pub const MAX_QUERY_BYTES: usize = 8_192;
/// The most parameters that an event carries.
pub const MAX_PARAMETERS: usize = 20;
/// The longest name of a parameter, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The longest value of a parameter, in bytes.
pub const MAX_VALUE_BYTES: usize = 512;
/// The longest `User-Agent` and `Referer` that are kept, in bytes.
pub const MAX_HEADER_BYTES: usize = 512;
/// The most bytes of all headers' names and values together: several times what browsers send, including
/// cookies.
pub const MAX_HEADERS_BYTES: usize = 32_768;
