//! The client's address: whose it is, and what of it is kept.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Enough for `2001:db8:ffff::` and `255.255.255.0`.
const MAX_TEXT_BYTES: usize = 16;

/// Every octet with a full stop behind it, and how long that is.
static OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = if octet >= 100 {
            3
        } else if octet >= 10 {
            2
        } else {
            1
        };
        let mut left = octet;
        let mut place = digits;
        while place > 0 {
            place -= 1;
            octets[octet].0[place] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        octets[octet].1 = digits + 1;
        octet += 1;
    }
    octets
};

/// An address as it is kept: the network that it is in, IPv4 to /24 and IPv6 to /48. Empty where none is
/// known.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct TruncatedAddress {
    text: [u8; MAX_TEXT_BYTES],
    length: usize,
}

impl TruncatedAddress {
    /// Truncates `address`. An IPv4 address written as IPv6 is one of IPv4.
    pub fn of(address: IpAddr) -> Self {
        let mut truncated = Self::default();
        match address.to_canonical() {
            IpAddr::V4(address) => truncated.push_v4(address),
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                let network = Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0);
                // It fits: three groups and two colons.
                let _ = write!(truncated, "{network}");
            }
        }
        truncated
    }

    /// From a table, because every request has one: formatting costs several times as much.
    fn push_v4(&mut self, address: Ipv4Addr) {
        let [a, b, c, _] = address.octets();
        let mut at = 0;
        for octet in [a, b, c] {
            let (text, length) = OCTETS[usize::from(octet)];
            if let Some(slot) = self.text.get_mut(at..at + text.len()) {
                slot.copy_from_slice(&text);
            }
            at += length;
        }
        self.text[at] = b'0';
        self.length = at + 1;
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.text.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..self.length).unwrap_or_default();
        str::from_utf8(text).unwrap_or_default()
    }
}

impl Write for TruncatedAddress {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

impl fmt::Debug for TruncatedAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

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
