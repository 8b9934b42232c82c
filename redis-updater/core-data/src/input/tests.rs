use adtrack_proto::program::{CoreData, Program};
use proptest::prelude::*;

use super::record::MAX_RECORD_BYTES;
use super::*;

const P: &str =
    r#""programName":"n","checksum":"c","customerId":1,"customerName":"cn","valid":true"#;
const HEADER: &str = "programId,programName,checksum,customerId,customerName,valid";

/// What a file holds: the id of each program, `-id` for a deletion, and the errors.
fn read_as(format: Option<Format>, text: impl AsRef<[u8]>) -> Vec<String> {
    let show = |record: Result<Record, ReadError>| match record {
        Ok(Record { core_data: CoreData::Program(program), .. }) => program.program_id.to_string(),
        Ok(Record { core_data: CoreData::Deleted(id), .. }) => format!("-{id}"),
        Err(ReadError::Invalid(problem)) => problem.to_string(),
        Err(ReadError::Broken(problem)) => format!("broken {problem}"),
        Err(ReadError::Io(error)) => panic!("{error}"),
    };
    match Records::open(text.as_ref(), format) {
        Ok(records) => records.map(show).collect(),
        Err(error) => vec![show(Err(error))],
    }
}

fn read(text: impl AsRef<[u8]>) -> Vec<String> {
    read_as(None, text)
}

fn program(text: &str) -> Program {
    let record = Records::open(text.as_bytes(), None).unwrap().next().unwrap().unwrap();
    let CoreData::Program(program) = record.core_data else { panic!("deleted") };
    *program
}

#[test]
fn detects_the_format_by_its_first_character() {
    let a = format!(r#"{{"programId":"a",{P}}}"#);
    let b = r#"{"programId":"b","deleted":true}"#;
    assert_eq!(read(format!("{a}\n{b}\n")), ["a", "-b"]);
    assert_eq!(read(format!("[{a},{b}]")), ["a", "-b"]);
    assert_eq!(read(format!("{HEADER},deleted\na,n,c,1,cn,true,\nb,,,,,,true\n")), ["a", "-b"]);
    assert!(read("").is_empty() && read(" \n").is_empty() && read("[]").is_empty());
    assert_eq!(read_as(Some(Format::Json), b), ["broken 1:1: expected an array, `[`"]);
}

#[test]
fn accepts_byte_order_marks_and_line_ends_of_every_system() {
    let a = format!(r#"{{"programId":"a",{P}}}"#);
    assert_eq!(read(format!("\u{feff}{a}\r\n\r\n{a}")), ["a", "a"]);
    assert_eq!(read(format!("\u{feff}[\r\n{a}\r\n,\r\n{a}]\r\n")), ["a", "a"]);
    assert_eq!(
        read(format!("\u{feff}{HEADER}\r\na,n,c,1,cn,true\r\n\r\nb,n,c,1,cn,TRUE")),
        ["a", "b"]
    );
    assert_eq!(
        read("p\0r\0".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).len(),
        1
    );
    assert_eq!(
        read([0xFF, 0xFE, b'[', 0]),
        ["broken 1:1: is not UTF-8 (perhaps UTF-16); save it as UTF-8"]
    );
}

#[test]
fn reports_the_position_of_an_error_in_json_lines_and_reads_the_other_lines() {
    let file = format!(
        "{{\"programId\":\"a\",{P}}}\n  {{\"programId\":\"ü b\"}}\n{{\"ü\":1,}}\n{{\"programId\":\n\
         {{\"programId\":\"b\",{P},\"valid\":\"yes\"}}\n[]\n{{\"programId\":\"ü\",{P}}}\n\
         {{\"programId\":\"c\",{P},\"fallbackUrl\":\"ftp://x\"}}\n{{\"programId\":\"d\",{P}}}"
    );
    let read = read(file);
    let expected = [
        ("a", ""),
        ("2:16: ", "member `programId`: a program id has"),
        ("3:8: ", "trailing comma"),
        ("4:13: ", "EOF while parsing a value"),
        ("5:105: ", "duplicate field `valid`"),
        ("6:1: ", "expected a JSON object"),
        ("7:14: ", "member `programId`"),
        ("8:113: ", "member `fallbackUrl`: has the scheme `ftp`"),
        ("d", ""),
    ];
    assert_eq!(read.len(), expected.len(), "{read:#?}");
    for (read, (start, part)) in read.iter().zip(expected) {
        assert!(read.starts_with(start) && read.contains(part), "{read} – {start} {part}");
    }
}

#[test]
fn reads_on_after_a_broken_record_in_an_array_but_not_after_a_broken_array() {
    let ok = |id: &str| format!("{{\"programId\":\"{id}\",{P}}}");
    let file = format!(
        "[\n{},\n{{\"programId\":\"x\",\n  \"deleted\": \"]}},\\\"\"}}, 7, {{]}}, {}\n]",
        ok("a"),
        ok("b")
    );
    let read_all = read(file);
    assert_eq!(read_all.len(), 5, "{read_all:#?}");
    assert!(
        read_all[1].starts_with("4:14: member `deleted`: invalid type: string"),
        "{}",
        read_all[1]
    );
    assert_eq!(read_all[2], "4:24: expected a JSON object");
    assert!(read_all[3].starts_with("4:28: key must be a string"), "{}", read_all[3]);
    for (file, expected) in [
        ("[", "broken 1:2: the array is not closed: the file may be cut off; expected `,` or `]`"),
        ("[,]", "broken 1:2: expected a record"),
        ("[]]", "broken 1:3: there is more after the array's end"),
        (
            "[\n {\"programId\":",
            "broken 2:2: this record is not closed: a brace or a quote is missing",
        ),
    ] {
        assert_eq!(read(file), [expected], "{file}");
    }
    let deleted = r#"{"programId":"b","deleted":true}"#;
    assert_eq!(read(format!("[{deleted},]"))[1], "broken 1:35: expected a record");
    assert_eq!(read(format!("[{deleted} {deleted}]")).len(), 1, "one element, not valid JSON");
}

#[test]
fn reads_every_member_from_csv() {
    let program = program(
        "validUntil,programId,programName,checksum,customerId,customerName,valid,validFrom,\
         landingUrl,fallbackUrl,allowedHosts,test,conversionKeyId,parameterAliases,statusAliases,messageId\n\
         2027-01-01T00:00:00Z,p,\"a, \"\"b\"\"\nc\",c,9124,cn,True,,https://h/{click_id},,\
         a.example; b.example c.example,FALSE,k,payout=amount;txid=transaction_id,1=approved 0=rejected,ignored\n",
    );
    assert_eq!(program.program_name, "a, \"b\"\nc");
    assert_eq!((program.customer_id, program.validity.valid, program.test), (9124, true, false));
    assert_eq!((program.validity.from, program.fallback_url), (None, None));
    assert_eq!(program.validity.until.unwrap().to_string(), "2027-01-01T00:00:00Z");
    assert_eq!(program.landing_url.unwrap(), "https://h/{click_id}");
    assert_eq!(program.allowed_hosts, ["a.example", "b.example", "c.example"]);
    assert_eq!(program.conversion_key_id.unwrap(), "k");
    assert_eq!(program.parameter_aliases["txid"], "transaction_id");
    assert_eq!(program.status_aliases["0"], "rejected");
}

#[test]
fn reports_the_cell_of_an_error_in_csv() {
    let file = format!(
        "{HEADER}\na,\"ü\n\",c,one,cn,true\nb,n,c,1,cn\nc,n,,1,cn,true\nd,ü,c,1,cn,yes\n\
         e,n\"n,c,1,cn,true\nf,\"n\"x,c,1,cn,true\ng g,n,c,1,cn,true\nh,n,c,1,cn,true\n"
    );
    let read_all = read(file);
    let expected = [
        ("3:5: ", "`customerId` as a 64-bit integer"),
        ("4:1: ", "the row has 5 cells; the header has 6"),
        ("5:1: ", "member `checksum` is missing"),
        ("6:12: ", "member `valid`: \"yes\" is neither true nor false"),
        ("7:4: ", "a quote inside a cell"),
        ("8:6: ", "after a closing quote"),
        ("9:1: ", "member `programId`: "),
        ("h", ""),
    ];
    assert_eq!(read_all.len(), expected.len(), "{read_all:#?}");
    for (read, (start, part)) in read_all.iter().zip(expected) {
        assert!(read.starts_with(start) && read.contains(part), "{read} – {start} {part}");
    }
    assert_eq!(
        read(format!("{HEADER}\na,n,c,1,\"cn,true\nb")),
        ["broken 2:9: the quote that begins here is not closed: the file may be cut off"]
    );
    assert_eq!(
        read([HEADER.as_bytes(), b"\na,\xFF,c,1,c,true"].concat())[0],
        "2:3: is not UTF-8; save the file as UTF-8"
    );
}

#[test]
fn rejects_a_header_that_would_clear_members() {
    let first = |header: &str| read(format!("{header}\n")).remove(0);
    let misspelt = first("programId,landingURL");
    assert!(misspelt.starts_with("broken 1:11: the column \"landingURL\" is not a member"));
    assert!(misspelt.contains("programName, checksum"), "{misspelt}");
    assert!(first("programId;valid").ends_with("cells are separated by commas"));
    assert_eq!(first("programId,programId"), "broken 1:11: the column \"programId\" appears twice");
    assert!(
        first("programName,valid").starts_with("broken 1:1: the header has no column `programId`")
    );
}

#[test]
fn rejects_an_alias_that_is_given_twice() {
    let header = "programId,programName,checksum,customerId,customerName,valid,statusAliases";
    assert_eq!(
        read(format!("{header}\na,n,c,1,c,true,1=approved;1=pending\n")),
        ["2:16: member `statusAliases`: \"1\" is given twice; give it once"]
    );
}

#[test]
fn bounds_the_memory_of_a_record() {
    let long = "x".repeat(MAX_RECORD_BYTES + 10);
    let deleted = r#"{"programId":"b","deleted":true}"#;
    let too_long = format!("the record has more than {MAX_RECORD_BYTES} bytes");
    assert_eq!(
        read(format!("{{\"a\":\"{long}\"}}\n{deleted}")),
        [format!("1:1: {too_long}"), "-b".into()]
    );
    assert_eq!(
        read(format!("[{{\"a\":\"{long}\"}},{deleted}]")),
        [format!("1:2: {too_long}"), "-b".into()]
    );
    let row = format!("the row has more than {MAX_RECORD_BYTES} bytes");
    assert_eq!(
        read(format!("programId,deleted\n{long}\nb,true")),
        [format!("2:1: {row}"), "-b".into()]
    );
    let commas = ",".repeat(MAX_RECORD_BYTES + 10);
    assert_eq!(
        read(format!("programId,deleted\n{commas}\nb,true")),
        [format!("2:1: {row}"), "-b".into()]
    );
    assert!(read(format!("programId,deleted\n\"{long}"))[0].starts_with("broken 2:1: the quote"));
}

#[test]
fn names_unknown_members() {
    let text =
        format!(r#"{{"programId":"a",{P},"landingURL":"x","userAgent":"u","\u0076ersion":"1"}}"#);
    let record = Records::open(text.as_bytes(), None).unwrap().next().unwrap().unwrap();
    assert_eq!(record.unknown_members, ["landingURL"]);
}

#[test]
fn proto_declares_exactly_the_members_it_writes() {
    let full = r#"{"programId":"a","programName":"n","checksum":"c","customerId":1,
        "customerName":"cn","valid":true,"validFrom":"2026-01-01T00:00:00Z",
        "validUntil":"2027-01-01T00:00:00Z","landingUrl":"https://h/","fallbackUrl":"https://h/",
        "allowedHosts":["h"],"conversionKeyId":"k","parameterAliases":{"a":"amount"},
        "statusAliases":{"1":"approved"},"test":true}"#;
    let written = |core_data: CoreData| {
        let json: serde_json::Map<_, _> = serde_json::from_str(&core_data.to_json()).unwrap();
        json.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let deleted = r#"{"programId":"a","deleted":true}"#;
    let mut names = written(CoreData::from_json(full.as_bytes()).unwrap());
    names.extend(written(CoreData::from_json(deleted.as_bytes()).unwrap()));
    names.sort();
    names.dedup();
    let mut members = adtrack_proto::members::MEMBERS.map(|member| member.name).to_vec();
    members.sort_unstable();
    assert_eq!(names, members);
}

fn formats() -> impl Strategy<Value = Option<Format>> {
    prop_oneof![
        Just(None),
        Just(Some(Format::Jsonl)),
        Just(Some(Format::Json)),
        Just(Some(Format::Csv))
    ]
}

/// Text made of the formats' tokens, so that parsing gets past the first character.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "\\",
        "\n",
        "\r\n",
        " ",
        ":",
        "true",
        "1",
        "ü",
        "\u{feff}",
        "programId",
        "\"programId\":\"a\"",
        "\"deleted\":true",
        "programId,deleted\n",
        "a,true\n",
        "{\"programId\":\"a\",\"deleted\":true}",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..40)
        .prop_map(|pieces| pieces.concat().into_bytes())
}

/// A reader that returns one byte at a time, as a slow pipe may.
struct Trickle<'a>(&'a [u8]);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.len().min(buffer.len()).min(1);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

proptest! {
    #[test]
    fn never_panics_and_every_position_is_in_the_file(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), pieces()],
        format in formats(),
    ) {
        let all = |records: Result<Vec<_>, ReadError>| records.unwrap_or_else(|error| vec![Err(error)]);
        let whole = all(Records::open(&*bytes, format).map(Iterator::collect));
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        for record in &whole {
            if let Err(ReadError::Invalid(problem) | ReadError::Broken(problem)) = record {
                let Position { line, column } = problem.position;
                prop_assert!(line >= 1 && line as usize <= lines.len(), "{problem}");
                let longest = lines[line as usize - 1].len() as u64 + 1;
                prop_assert!(column >= 1 && column <= longest, "{problem}");
            }
        }
        let trickled =
            all(Records::open(std::io::BufReader::with_capacity(1, Trickle(&bytes)), format).map(Iterator::collect));
        prop_assert_eq!(format!("{whole:?}"), format!("{trickled:?}"));
    }

    #[test]
    fn finds_the_position_of_the_only_bad_record(
        before in 0_usize..20, after in 0_usize..5, indent in 0_usize..5, name in "[a-zü\u{1F600}]{0,9}",
    ) {
        let good = r#"{"programId":"g","deleted":true}"#;
        let head = format!(r#"{{"é{name}":1,"programId":"#);
        let bad = format!(r#"{}{head}"b b","deleted":true}}"#, " ".repeat(indent));
        let mut records = vec![good.to_owned(); before];
        records.push(bad);
        records.extend(vec![good.to_owned(); after]);
        let column = indent + head.chars().count() + 1;
        let expected = format!("{}:{column}: member `programId`", before + 1);
        let found = |text: String, expected: &str| {
            let errors: Vec<String> =
                read(text).into_iter().filter(|line| !line.starts_with('-')).collect();
            prop_assert_eq!(errors.len(), 1);
            prop_assert!(errors[0].starts_with(expected), "{} – {}", errors[0], expected);
            Ok(())
        };
        if before > 0 {
            found(records.join("\n"), &expected)?;
        }
        // In the array, the first line has the bracket.
        let expected = format!("{}:{column}: member `programId`", before + 2);
        found(format!("[\n{}\n]", records.join(",\n")), &expected)?;
    }

    #[test]
    fn csv_cells_round_trip(names in prop::collection::vec("\\PC{1,8}|[a,\"\n\r]{1,8}", 1..10)) {
        let rows: Vec<String> = names
            .iter()
            .map(|name| format!("p,\"{}\",c,1,cn,true", name.replace('"', "\"\"")))
            .collect();
        let file = format!("{HEADER}\n{}\n", rows.join("\r\n"));
        let read: Vec<String> = Records::open(file.as_bytes(), None)
            .unwrap()
            .map(|record| match record.unwrap().core_data {
                CoreData::Program(program) => program.program_name,
                CoreData::Deleted(_) => String::new(),
            })
            .collect();
        prop_assert_eq!(read, names);
    }
}
