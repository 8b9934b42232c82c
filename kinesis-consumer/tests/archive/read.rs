//! Reads the archive's files with Parquet's own reader.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

/// A row in the table's form; what is NULL is absent.
pub type Row = HashMap<String, AttributeValue>;

/// The rows of a file.
pub fn rows(file: &Bytes) -> Vec<Row> {
    let reader = SerializedFileReader::new(file.clone()).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| row.unwrap().into_columns().into_iter().filter_map(attribute).collect())
        .collect()
}

/// The columns of a file with their types, as Parquet has them.
pub fn types(file: &Bytes) -> BTreeMap<String, String> {
    let reader = SerializedFileReader::new(file.clone()).unwrap();
    let schema = reader.metadata().file_metadata().schema();
    let fields = schema.get_fields().iter();
    fields
        .map(|field| {
            let info = field.get_basic_info();
            let physical = if field.is_group() {
                String::new()
            } else {
                format!("{:?} ", field.get_physical_type())
            };
            let logical = info.logical_type_ref().map(|it| format!("{it:?}")).unwrap_or_default();
            (field.name().to_owned(), physical + &logical)
        })
        .collect()
}

fn attribute((name, field): (String, Field)) -> Option<(String, AttributeValue)> {
    let number = |number: i64| AttributeValue::N(number.to_string());
    let text = |field: &Field| match field {
        Field::Str(text) => text.clone(),
        other => panic!("{other:?} in {name}"),
    };
    let value = match &field {
        Field::Null => return None,
        Field::Bool(flag) => AttributeValue::Bool(*flag),
        Field::Int(integer) => number((*integer).into()),
        Field::Long(long) | Field::TimestampMillis(long) => number(*long),
        Field::ListInternal(list) => AttributeValue::Ss(list.elements().iter().map(text).collect()),
        Field::MapInternal(map) => AttributeValue::M(
            map.entries()
                .iter()
                .map(|(key, value)| (text(key), AttributeValue::S(text(value))))
                .collect(),
        ),
        single => AttributeValue::S(text(single)),
    };
    Some((name, value))
}
