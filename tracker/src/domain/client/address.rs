//! The client's address: finds it behind proxies, and truncates it.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use arrayvec::ArrayString;
use ipnet::IpNet;

/// Enough for `2001:db8:ffff::` and `255.255.255.0`.
const MAX_TEXT_BYTES: usize = 16;

/// An address as it is recorded: only its network, /24 for IPv4 and /48 for IPv6. Empty if the address is
/// unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TruncatedAddress(ArrayString<MAX_TEXT_BYTES>);

impl TruncatedAddress {
    /// Truncates `address`. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        let mut text = ArrayString::new();
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                for octet in [a, b, c] {
                    text.push_str(OCTETS[usize::from(octet)]);
                }
                text.push('0');
            }
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                let network = Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0);
                // Always fits: three groups and two colons.
                let _ = write!(text, "{network}");
            }
        }
        Self(text)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Every octet as text, followed by a full stop: a copy for each request instead of formatting.
static OCTETS: [&str; 256] = {
    let mut octets = [""; 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = DIGITS[octet].as_slice();
        let skipped = if octet >= 100 {
            0
        } else if octet >= 10 {
            1
        } else {
            2
        };
        if let Ok(text) = str::from_utf8(digits.split_at(skipped).1) {
            octets[octet] = text;
        }
        octet += 1;
    }
    octets
};

/// Every octet as three digits and a full stop.
static DIGITS: [[u8; 4]; 256] = {
    let mut digits = [[b'.'; 4]; 256];
    let mut octet = 0_u8;
    loop {
        digits[octet as usize] =
            [b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10, b'.'];
        if octet == u8::MAX {
            break;
        }
        octet += 1;
    }
    digits
};

/// Whether `address` is in one of `networks`.
pub fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    if networks.is_empty() {
        return false;
    }
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// The client of a request that arrived from `proxy`, one of the `trusted` networks. Each proxy appends the
/// address of its own client to `X-Forwarded-For`, so the first address from the right that is not trusted
/// is the client's. Anything to the left of it may be made up. An entry that is not an address ends the
/// search, and the last proxy counts as the client.
pub fn forwarded_client<'a>(
    proxy: IpAddr,
    from_the_right: impl Iterator<Item = &'a [u8]>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut client = proxy;
    for entry in from_the_right {
        let Some(address) = parse_entry(entry) else { break };
        client = address;
        if !is_in(address, trusted) {
            break;
        }
    }
    client
}

/// Parses an address. Some proxies write it with a port, or an IPv6 address in brackets.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let entry = str::from_utf8(entry).ok()?.trim();
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    entry
        .parse::<IpAddr>()
        .ok()
        .or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| in_brackets().map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn truncate(address: &str) -> String {
        TruncatedAddress::of(address.parse().unwrap()).as_str().to_owned()
    }

    #[test]
    fn truncates_addresses_to_their_networks() {
        for (address, kept) in [
            ("192.0.2.255", "192.0.2.0"),
            ("255.255.255.255", "255.255.255.0"),
            ("1.20.100.9", "1.20.100.0"),
            ("0.0.0.0", "0.0.0.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
            ("2001:db8:ffff:ffff::1", "2001:db8:ffff::"),
            ("fd00::1", "fd00::"),
            ("::1", "::"),
            ("::ffff:192.0.2.7", "192.0.2.0"),
        ] {
            assert_eq!(truncate(address), kept);
        }
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(truncate(longest), "ffff:ffff:ffff::");
        assert_eq!(TruncatedAddress::default().as_str(), "");
    }

    #[test]
    fn formats_ipv4_as_the_standard_library_does() {
        for octet in 0..=255 {
            let address = Ipv4Addr::new(octet, 255 - octet, octet / 2, 7);
            let [a, b, c, _] = address.octets();
            assert_eq!(truncate(&address.to_string()), Ipv4Addr::new(a, b, c, 0).to_string());
        }
    }

    fn client(forwarded: &str) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:aa::/48".parse().unwrap()];
        let proxy = "10.0.0.1".parse().unwrap();
        let entries = forwarded.rsplit(',').map(str::as_bytes);
        forwarded_client(proxy, entries, &trusted).to_string()
    }

    #[test]
    fn takes_the_first_untrusted_address_from_the_right() {
        for (forwarded, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            // What the client made up is to the left of what the first proxy saw.
            ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
            ("198.51.100.1, 203.0.113.7, 10.9.9.9,10.2.3.4", "203.0.113.7"),
            ("10.0.0.5, 203.0.113.7", "203.0.113.7"),
            ("203.0.113.7, 2001:db8:aa::5", "203.0.113.7"),
            ("203.0.113.7, ::ffff:10.1.1.1", "203.0.113.7"),
            // All are trusted: the farthest counts.
            ("10.0.0.5, 10.0.0.6", "10.0.0.5"),
            // Garbage ends the search.
            ("198.51.100.1, unknown", "10.0.0.1"),
            ("198.51.100.1, unknown, 10.0.0.6", "10.0.0.6"),
            ("198.51.100.1,", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("' OR 1=1", "10.0.0.1"),
            ("203.0.113.7:61234", "203.0.113.7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
        ] {
            assert_eq!(client(forwarded), expected, "{forwarded}");
        }
    }
}
