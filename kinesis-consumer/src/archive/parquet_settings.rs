//! The settings of all of the archive's Parquet files.

use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::TypePtr;

/// The bytes of a page, and the rows: a column is one page, because files are small and read whole.
const UNLIMITED: usize = usize::MAX;

/// The settings of a file: Zstandard, and minima and maxima of each column.
pub fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(UNLIMITED)
        .set_data_page_size_limit(UNLIMITED)
        .set_dictionary_page_size_limit(UNLIMITED)
}

/// A schema, which is a constant.
#[expect(clippy::expect_used, reason = "a constant, which tests parse")]
pub fn schema(text: &str) -> TypePtr {
    Arc::new(parse_message_type(text).expect("a schema"))
}
