//! The client's address: whose it is, and what of it is kept.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use arrayvec::ArrayString;
use ipnet::IpNet;

/// Enough for `2001:db8:ffff::` and `255.255.255.0`.
const MAX_TEXT_BYTES: usize = 16;

/// An address as it is kept: the network that it is in, IPv4 to /24 and IPv6 to /48. Empty where none is
/// known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TruncatedAddress(ArrayString<MAX_TEXT_BYTES>);

impl TruncatedAddress {
    /// Truncates `address`. An IPv4 address written as IPv6 is one of IPv4.
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
                // It fits: three groups and two colons.
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

/// Every octet with a full stop behind it: each request has an address, and formatting it would cost
/// several times as much.
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

/// Whether one of `networks` has `address`.
pub fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    if networks.is_empty() {
        return false;
    }
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Whose request it is, where `proxy` sent it, one of the `trusted`: each proxy adds to the right of
/// `X-Forwarded-For` who asked it, so the first from the right that is not trusted is the client.
/// Whatever stands left of that, the client may have made up. What is no address ends the walk: the last
/// proxy is as far as is known then.
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

/// An address, as some proxies write it with a port, and an IPv6 one in brackets.
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

    fn truncated(address: &str) -> String {
        TruncatedAddress::of(address.parse().unwrap()).as_str().to_owned()
    }

    #[test]
    fn an_address_keeps_its_network_alone() {
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
            assert_eq!(truncated(address), kept);
        }
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(truncated(longest), "ffff:ffff:ffff::");
        assert_eq!(TruncatedAddress::default().as_str(), "");
    }

    #[test]
    fn every_ipv4_address_is_written_as_the_library_does() {
        for octet in 0..=255 {
            let address = Ipv4Addr::new(octet, 255 - octet, octet / 2, 7);
            let [a, b, c, _] = address.octets();
            assert_eq!(truncated(&address.to_string()), Ipv4Addr::new(a, b, c, 0).to_string());
        }
    }

    fn client(forwarded: &str) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:aa::/48".parse().unwrap()];
        let proxy = "10.0.0.1".parse().unwrap();
        let entries = forwarded.rsplit(',').map(str::as_bytes);
        forwarded_client(proxy, entries, &trusted).to_string()
    }

    #[test]
    fn the_first_from_the_right_that_is_not_trusted_is_the_client() {
        for (forwarded, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            // What the client made up stands left of what the first proxy saw.
            ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
            ("198.51.100.1, 203.0.113.7, 10.9.9.9,10.2.3.4", "203.0.113.7"),
            ("10.0.0.5, 203.0.113.7", "203.0.113.7"),
            ("203.0.113.7, 2001:db8:aa::5", "203.0.113.7"),
            ("203.0.113.7, ::ffff:10.1.1.1", "203.0.113.7"),
            // All trusted: the one that is farthest.
            ("10.0.0.5, 10.0.0.6", "10.0.0.5"),
            // Garbage ends the walk.
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
