//! Which events become rows. Pure.

use adtrack_proto::event::EventType;

use crate::item::Row;

/// The types of events that become rows: `ROW_TYPES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowTypes(Vec<EventType>);

impl RowTypes {
    /// Every type, which is the default.
    pub fn all() -> Self {
        Self(EventType::ALL.to_vec())
    }

    /// Whether `row` is written. A row that is written once always is: without it, a repeat could not be told
    /// from the first.
    pub fn include(&self, row: &Row) -> bool {
        row.is_written_once() || self.0.contains(&row.event.event_type())
    }
}

/// Parses names of types, separated by commas, such as `click,conversion`.
pub fn parse_row_types(text: &str) -> Result<RowTypes, String> {
    let parse = |name: &str| EventType::ALL.into_iter().find(|one| one.name() == name);
    let types = text.split(',').map(|name| parse(name.trim())).collect::<Option<_>>();
    types.map(RowTypes).ok_or_else(|| {
        let names = EventType::ALL.map(EventType::name).join(", ");
        format!("expected one or more of {names}, separated by commas")
    })
}

#[cfg(test)]
mod tests {
    use adtrack_proto::event::TrackingEvent;
    use jiff::Timestamp;

    use super::*;
    use crate::item::RowSettings;

    fn row(id: &str, event_type: i32) -> Row {
        let event = TrackingEvent { message_id: id.into(), event_type, ..TrackingEvent::default() };
        Row::new(event, b"", Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, RowSettings::default())
    }

    #[test]
    fn includes_the_named_types() {
        let types = parse_row_types("click, unspecified").unwrap();
        let included = [0, 1, 2, 3, 4, 77].map(|event_type| types.include(&row("m", event_type)));
        // A type of a later version counts as unspecified.
        assert_eq!(included, [true, false, false, true, false, true]);
        assert!((0..5).all(|event_type| RowTypes::all().include(&row("m", event_type))));
    }

    #[test]
    fn always_includes_rows_that_are_written_once() {
        let types = parse_row_types("click").unwrap();
        assert!(types.include(&row("6b0c9a2e-1111-8222-9333-444455556666", 2)));
        assert!(!types.include(&row("019b7ca9-8f2e-7707-8707-070707070707", 2)));
    }

    #[test]
    fn rejects_unknown_names() {
        for text in ["", "clicks", "click,", "click;conversion", "Click"] {
            let error = parse_row_types(text).unwrap_err();
            assert_eq!(
                error,
                "expected one or more of event, impression, click, conversion, unspecified, separated by commas",
                "{text}"
            );
        }
    }
}
