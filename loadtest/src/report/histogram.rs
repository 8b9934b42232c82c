//! Histograms as text in the JSON: `VALUE:COUNT VALUE:COUNT …`, values in nanoseconds. From these, reports can be
//! merged and compared.

use crate::recorder::Times;

/// Writes a histogram as text; empty if it has no values.
pub(super) fn encode(times: &Times) -> String {
    let pairs: Vec<String> = times
        .iter_recorded()
        .map(|step| format!("{}:{}", step.value_iterated_to(), step.count_at_value()))
        .collect();
    pairs.join(" ")
}

/// Adds the values of a text to a histogram. Pairs that are not valid are skipped.
pub(crate) fn decode_into(text: &str, times: &mut Times) {
    for pair in text.split_ascii_whitespace() {
        if let Some((value, count)) = pair.split_once(':')
            && let (Ok(value), Ok(count)) = (value.parse(), count.parse())
        {
            times.saturating_record_n(value, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{run_histogram, slice_histogram};

    #[test]
    fn reads_what_it_wrote() {
        for empty in [run_histogram as fn() -> Times, slice_histogram] {
            let mut times = empty();
            for n in 0..10_000_u64 {
                times.saturating_record(n * n * 997);
            }
            let mut read = empty();
            decode_into(&encode(&times), &mut read);
            assert_eq!(read, times);
            assert_eq!(encode(&empty()), "");
        }
    }
}
