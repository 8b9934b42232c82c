//! Verifies the signatures of conversions. docs/CONVERSIONS.md describes them for those who sign.

use adtrack_proto::ProgramId;
use adtrack_proto::unfilled::{is_unfilled, visible};

use super::claim::ConversionClaim;
use crate::domain::{Refusal, SigningKeys};

/// Keeps a signature of something else, made with the same key, from being valid for a conversion.
const KIND: &str = "conversion";

impl ConversionClaim<'_> {
    /// Verifies the signature with the key `key_id`, which the program requires, and that the claim has an id
    /// that makes it unique. Otherwise anybody who sees the signed conversion could repeat it, and it would
    /// be counted each time.
    pub fn verify_signature(
        &self,
        program_id: &ProgramId,
        key_id: &str,
        keys: &SigningKeys,
    ) -> Result<(), Refusal> {
        verify(self, program_id, key_id, keys)?;
        let is_none = |id: &&str| visible(id).is_empty() || is_unfilled(id);
        if [self.transaction_id, self.click_id, self.event_id].iter().all(is_none) {
            let problem = "a signed conversion must name its `transaction_id`, its `click_id` or an id \
                           of the event itself";
            return Err(Refusal::invalid_parameters(problem));
        }
        Ok(())
    }
}

/// Checks that the claim's signature is the HMAC-SHA-256 (RFC 2104) of its texts with the key `key_id`, in
/// 64 hexadecimal digits.
fn verify(
    claim: &ConversionClaim<'_>,
    program_id: &ProgramId,
    key_id: &str,
    keys: &SigningKeys,
) -> Result<(), Refusal> {
    if !keys.has(key_id) {
        return Err(Refusal::ConversionKeyUnavailable);
    }
    let mut signature = [0; 32];
    hex::decode_to_slice(claim.signature, &mut signature).map_err(|_| Refusal::InvalidSignature)?;
    let is_good = keys.verify(key_id, signed_text(claim, program_id).as_bytes(), &signature);
    if is_good { Ok(()) } else { Err(Refusal::InvalidSignature) }
}

/// What is signed: netstrings (<https://cr.yp.to/proto/netstrings.txt>), each the length in bytes, `:`, the
/// text, `,`, so that different lists of texts are never signed alike. The event id is part of it because
/// it determines the message id.
fn signed_text(claim: &ConversionClaim<'_>, program_id: &ProgramId) -> String {
    let parts = [
        KIND,
        program_id.as_str(),
        claim.click_id,
        claim.event_name,
        claim.transaction_id,
        claim.status,
        claim.amount,
        claim.currency,
        claim.event_id,
    ];
    parts.iter().map(|part| format!("{}:{part},", part.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `0123456789abcdef0123456789abcdef`, and as many `k`.
    const KEYS: &str = "network-a=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n\
                        network-b=a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

    fn claim() -> ConversionClaim<'static> {
        ConversionClaim {
            click_id: "019b7ca9-8f2e-7707-8707-070707070707",
            event_name: "sale",
            transaction_id: "order-1001",
            status: "approved",
            amount: "49.90",
            currency: "EUR",
            // The worked example of docs/CONVERSIONS.md.
            signature: "9a219209a0888319d66b3d34e63652e6304871457a4affc14cce08947e280329",
            ..ConversionClaim::default()
        }
    }

    fn check(claim: &ConversionClaim<'_>) -> Result<(), Refusal> {
        verify_for("212313", "network-a", claim)
    }

    fn verify_for(
        program_id: &str,
        key_id: &str,
        claim: &ConversionClaim<'_>,
    ) -> Result<(), Refusal> {
        let keys = SigningKeys::parse(KEYS).unwrap();
        verify(claim, &ProgramId::parse(program_id).unwrap(), key_id, &keys)
    }

    #[test]
    fn agrees_with_the_example_in_the_documentation() {
        let program_id = ProgramId::parse("212313").unwrap();
        let text = "10:conversion,6:212313,36:019b7ca9-8f2e-7707-8707-070707070707,4:sale,\
                    10:order-1001,8:approved,5:49.90,3:EUR,0:,";
        assert_eq!(signed_text(&claim(), &program_id), text);
        assert_eq!(check(&claim()), Ok(()));
        let upper = claim().signature.to_uppercase();
        assert_eq!(check(&ConversionClaim { signature: &upper, ..claim() }), Ok(()));
        let documentation = include_str!("../../../../docs/CONVERSIONS.md");
        assert!(documentation.contains(text) && documentation.contains(claim().signature));
    }

    #[test]
    fn refuses_a_claim_that_was_changed() {
        let good = claim();
        for changed in [
            ConversionClaim { click_id: "", ..good },
            ConversionClaim { event_name: "signup", ..good },
            ConversionClaim { transaction_id: "order-1002", ..good },
            ConversionClaim { status: "refunded", ..good },
            ConversionClaim { status: "", ..good },
            ConversionClaim { amount: "499.0", ..good },
            ConversionClaim { amount: "49.9", ..good },
            ConversionClaim { currency: "USD", ..good },
            ConversionClaim { event_id: "again", ..good },
            // The same text, cut elsewhere.
            ConversionClaim { event_name: "saleo", transaction_id: "rder-1001", ..good },
            ConversionClaim { signature: "", ..good },
            ConversionClaim { signature: &good.signature[..62], ..good },
            ConversionClaim { signature: "x", ..good },
        ] {
            assert_eq!(check(&changed), Err(Refusal::InvalidSignature), "{changed:?}");
        }
        assert_eq!(verify_for("212314", "network-a", &good), Err(Refusal::InvalidSignature));
        assert_eq!(verify_for("212313", "network-b", &good), Err(Refusal::InvalidSignature));
        let unknown = verify_for("212313", "network-c", &good);
        assert_eq!(unknown, Err(Refusal::ConversionKeyUnavailable));
    }
}
