//! Rows as columns, and columns as a Parquet file. Pure: the same rows in the same order make the same bytes.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::fast::FixedState;
use parquet::basic::Type as PhysicalType;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::TypePtr;

/// The definition levels of a value that is there: in a column of single values, and within a list or a map.
const SINGLE: i16 = 1;
const MEMBER: i16 = 2;

/// Rows of a table whose columns are all optional: texts, numbers, flags, lists of texts and maps of texts. A row is
/// filled by the names of columns; what it was not given by its end is NULL.
#[derive(Debug)]
pub struct Columns {
    schema: TypePtr,
    indexes: HashMap<String, usize, FixedState>,
    columns: Vec<Column>,
    rows: usize,
}

/// A value for a column of its type.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// VARCHAR; an empty text is NULL.
    Text(&'a str),
    /// BIGINT, or a TIMESTAMP in milliseconds.
    Long(i64),
    /// INTEGER.
    Integer(i32),
    /// BOOLEAN.
    Flag(bool),
}

/// A column: the values of its leaves, of which a map has two, and the levels that place them in rows.
#[derive(Debug)]
struct Column {
    rows: usize,
    definition: Vec<i16>,
    /// Of a list or a map: 0 where a row begins.
    repetition: Option<Vec<i16>>,
    leaves: Vec<Leaf>,
}

#[derive(Debug)]
enum Leaf {
    Texts(Texts),
    Longs(Vec<i64>),
    Integers(Vec<i32>),
    Flags(Vec<bool>),
}

/// Texts in one buffer.
#[derive(Debug, Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Columns {
    /// No rows yet of a table with `schema`.
    pub fn new(schema: TypePtr) -> Self {
        let fields = schema.get_fields();
        let names = fields.iter().map(|field| field.name().to_owned());
        let indexes = names.enumerate().map(|(index, name)| (name, index)).collect();
        let columns = fields.iter().map(Column::new).collect();
        Self { schema, indexes, columns, rows: 0 }
    }

    /// Gives the current row a value.
    pub fn set(&mut self, name: &str, value: Value<'_>) {
        if matches!(value, Value::Text("")) {
            return;
        }
        let row = self.rows;
        let Some(column) = self.column(name) else { return };
        column.begin(row, SINGLE);
        column.push(0, value);
    }

    /// Gives the current row a list of texts. An empty one is NULL.
    pub fn set_list<'a>(&mut self, name: &str, texts: impl IntoIterator<Item = &'a str>) {
        self.set_group(name, texts.into_iter().map(|text| [text]));
    }

    /// Gives the current row a map from texts to texts. An empty one is NULL.
    pub fn set_map<'a>(
        &mut self,
        name: &str,
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        self.set_group(name, entries.into_iter().map(|(key, value)| [key, value]));
    }

    /// Ends the current row.
    pub fn end_row(&mut self) {
        self.rows += 1;
    }

    /// The rows as a Parquet file with one row group.
    pub fn encode(self, properties: WriterPropertiesPtr) -> Result<Vec<u8>> {
        let mut file = SerializedFileWriter::new(Vec::new(), self.schema, properties)?;
        let mut group = file.next_row_group()?;
        for mut column in self.columns {
            column.fill(self.rows);
            for leaf in column.leaves {
                let mut writer = group.next_column()?.ok_or_else(|| other_leaves("fewer"))?;
                let (definition, repetition) = (&column.definition, column.repetition.as_deref());
                leaf.write(writer.untyped(), definition, repetition)?;
                writer.close()?;
            }
        }
        group.close()?;
        file.into_inner()
    }

    fn set_group<'a, const LEAVES: usize>(
        &mut self,
        name: &str,
        members: impl Iterator<Item = [&'a str; LEAVES]>,
    ) {
        let row = self.rows;
        let Some(column) = self.column(name) else { return };
        for member in members {
            column.begin(row, MEMBER);
            for (leaf, text) in member.into_iter().enumerate() {
                column.push(leaf, Value::Text(text));
            }
        }
    }

    fn column(&mut self, name: &str) -> Option<&mut Column> {
        let column = self.indexes.get(name).and_then(|index| self.columns.get_mut(*index));
        debug_assert!(column.is_some(), "the schema has no column {name}");
        column
    }
}

impl Column {
    fn new(field: &TypePtr) -> Self {
        let leaves = leaves(field);
        let repetition = field.is_group().then(Vec::new);
        Self { rows: 0, definition: Vec::new(), repetition, leaves }
    }

    /// Adds the level of a value in `row`. The rows before it that have no value get NULL.
    fn begin(&mut self, row: usize, level: i16) {
        let is_first_of_row = self.rows <= row;
        self.fill(row);
        self.rows = row + 1;
        self.definition.push(level);
        if let Some(repetition) = &mut self.repetition {
            repetition.push(if is_first_of_row { 0 } else { 1 });
        }
    }

    /// Gives NULL to the rows before `row` that have no value.
    fn fill(&mut self, row: usize) {
        let nulls = row.saturating_sub(self.rows);
        self.rows = self.rows.max(row);
        self.definition.extend(std::iter::repeat_n(0, nulls));
        if let Some(repetition) = &mut self.repetition {
            repetition.extend(std::iter::repeat_n(0, nulls));
        }
    }

    fn push(&mut self, leaf: usize, value: Value<'_>) {
        match (self.leaves.get_mut(leaf), value) {
            (Some(Leaf::Texts(texts)), Value::Text(text)) => texts.push(text),
            (Some(Leaf::Longs(longs)), Value::Long(long)) => longs.push(long),
            (Some(Leaf::Integers(integers)), Value::Integer(integer)) => integers.push(integer),
            (Some(Leaf::Flags(flags)), Value::Flag(flag)) => flags.push(flag),
            (leaf, value) => debug_assert!(false, "{value:?} for {leaf:?}"),
        }
    }
}

/// The empty leaves of a field, in the order of the file.
fn leaves(field: &TypePtr) -> Vec<Leaf> {
    if field.is_group() {
        return field.get_fields().iter().flat_map(leaves).collect();
    }
    vec![match field.get_physical_type() {
        PhysicalType::BOOLEAN => Leaf::Flags(Vec::new()),
        PhysicalType::INT32 => Leaf::Integers(Vec::new()),
        PhysicalType::INT64 => Leaf::Longs(Vec::new()),
        _ => Leaf::Texts(Texts::default()),
    }]
}

impl Leaf {
    fn write(
        self,
        writer: &mut ColumnWriter<'_>,
        definition: &[i16],
        repetition: Option<&[i16]>,
    ) -> Result<()> {
        let levels = (Some(definition), repetition);
        match (self, writer) {
            (Self::Texts(texts), ColumnWriter::ByteArrayColumnWriter(writer)) => {
                writer.write_batch(&texts.into_values(), levels.0, levels.1)
            }
            (Self::Longs(longs), ColumnWriter::Int64ColumnWriter(writer)) => {
                writer.write_batch(&longs, levels.0, levels.1)
            }
            (Self::Integers(integers), ColumnWriter::Int32ColumnWriter(writer)) => {
                writer.write_batch(&integers, levels.0, levels.1)
            }
            (Self::Flags(flags), ColumnWriter::BoolColumnWriter(writer)) => {
                writer.write_batch(&flags, levels.0, levels.1)
            }
            _ => return Err(other_leaves("other")),
        }?;
        Ok(())
    }
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(self.bytes.len());
    }

    fn into_values(self) -> Vec<ByteArray> {
        let bytes = Bytes::from(self.bytes);
        let mut begin = 0;
        let mut value = |end| ByteArray::from(bytes.slice(std::mem::replace(&mut begin, end)..end));
        self.ends.into_iter().map(&mut value).collect()
    }
}

fn other_leaves(what: &str) -> ParquetError {
    ParquetError::General(format!("the schema has {what} leaves than the columns"))
}
