//! Kinesis records with more invalid user records than are kept one by one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn keeps_a_record_with_very_many_invalid_user_records_whole_and_once() {
    let function = Function::start(vec![]).await;
    let mut user_records = vec![Vec::new(); 120_000];
    user_records.push(event("good").encode_to_vec());
    let data = aggregate(user_records);
    let other = aggregate(vec![event("a").encode_to_vec(), b"\xff poison".to_vec()]);
    let batch = [record(7, other), record(8, data.clone()), record(9, event("b").encode_to_vec())];

    for _ in 0..2 {
        assert_eq!(function.invoke(&batch).await, Vec::<String>::new());
    }

    assert_eq!(function.row_count().await, 3, "its valid events and its neighbours are stored");
    let failed = function.failed_records();
    assert_eq!(failed.len(), 2);
    assert_eq!((failed[0].sequence_number.as_str(), failed[0].sub_sequence_number), ("7", 1));
    assert_eq!((failed[1].sequence_number.as_str(), failed[1].sub_sequence_number), ("8", 0));
    assert_eq!(STANDARD.decode(&failed[1].data).unwrap(), data);
    let reason = &failed[1].reason;
    assert!(
        reason.contains("120000 of its user records") && reason.contains("message_id is empty"),
        "{reason}"
    );

    // As deploy/redrive-failed sends it again.
    let again = [record(10, STANDARD.decode(&failed[1].data).unwrap())];
    assert_eq!(function.invoke(&again).await, Vec::<String>::new());
    assert_eq!((function.row_count().await, function.failed_records().len()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_a_record_whole_if_dynamodb_refuses_many_of_its_rows() {
    // The call with all rows, then each of them alone.
    let function = Function::start(vec![Fault::Refused; 21]).await;
    let mut user_records: Vec<_> =
        (0..20).map(|n| event(&format!("m{n}")).encode_to_vec()).collect();
    user_records.push(b"\xff poison".to_vec());
    let data = aggregate(user_records);
    assert_eq!(function.invoke(&[record(8, data.clone())]).await, Vec::<String>::new());
    let failed = function.failed_records();
    let whole = failed.iter().find(|kept| kept.sub_sequence_number == 0).unwrap();
    assert_eq!(failed.len(), 2, "the invalid one on its own, then all of them");
    assert_eq!(STANDARD.decode(&whole.data).unwrap(), data);
}
