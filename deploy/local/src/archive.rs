//! Reads an archive's files, for tests.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aws_sdk_dynamodb::types::AttributeValue;
use axum::body::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

/// A row in the form of the table's items. A column that is NULL is absent.
pub type Row = HashMap<String, AttributeValue>;

/// The Parquet files below `folder`, by name; none if there is no such folder. Files that are still being written have
/// other names.
///
/// # Errors
///
/// If a folder cannot be read.
pub fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The rows of a file.
///
/// # Errors
///
/// If it is not Parquet, or has columns that no file of the archive has.
pub fn rows(file: Bytes) -> Result<Vec<Row>, ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let rows = reader.get_row_iter(None)?;
    rows.map(|row| row?.into_columns().into_iter().filter_map(attribute).collect()).collect()
}

/// `None` if it is NULL.
fn attribute(
    (name, field): (String, Field),
) -> Option<Result<(String, AttributeValue), ParquetError>> {
    let number = |number: i64| Ok(AttributeValue::N(number.to_string()));
    let value = match field {
        Field::Null => return None,
        Field::Bool(flag) => Ok(AttributeValue::Bool(flag)),
        Field::Int(integer) => number(integer.into()),
        Field::Long(long) | Field::TimestampMillis(long) => number(long),
        Field::ListInternal(list) => {
            let texts: Result<_, _> = list.elements().iter().map(text).collect();
            texts.map(AttributeValue::Ss)
        }
        Field::MapInternal(map) => {
            let entry =
                |(key, value): &(Field, Field)| Ok((text(key)?, AttributeValue::S(text(value)?)));
            let entries: Result<_, _> = map.entries().iter().map(entry).collect();
            entries.map(AttributeValue::M)
        }
        single => text(&single).map(AttributeValue::S),
    };
    Some(value.map(|value| (name, value)))
}

fn text(field: &Field) -> Result<String, ParquetError> {
    match field {
        Field::Str(text) => Ok(text.clone()),
        other => Err(ParquetError::General(format!("{other:?} is not a text"))),
    }
}
