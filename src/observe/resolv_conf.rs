//! The nameservers in a `resolv.conf`, read leniently: no file, however odd, stops the start.
//!
//! In: the file's bytes. Out: addresses to ask, in the file's order, at least one.
//! Not here: `search`, `ndots`, `timeout` and every other option. Names are absolute, and the
//! timeouts are our own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

const DNS_PORT: u16 = 53;
/// More than glibc asks (3); no timeout would allow for asking them all one after another.
const SERVERS_MAX: usize = 8;

/// The first eight nameservers in the file's order, each once; `127.0.0.1:53` if it names none, as in
/// glibc.
///
/// A line that is not understood is ignored. `0.0.0.0` and `::` mean this host, as in glibc. An
/// IPv6 zone is kept when it is a number; an interface's name is dropped.
pub fn nameservers(bytes: &[u8]) -> Vec<SocketAddr> {
    let text = String::from_utf8_lossy(bytes);
    let mut servers = Vec::new();
    for line in text.trim_start_matches('\u{feff}').split(['\n', '\r']) {
        if let Some(server) = nameserver(line)
            && !servers.contains(&server)
        {
            servers.push(server);
            if servers.len() == SERVERS_MAX {
                break;
            }
        }
    }
    if servers.is_empty() {
        servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT));
    }
    servers
}

fn nameserver(line: &str) -> Option<SocketAddr> {
    let line = line.split(['#', ';']).next()?;
    let mut words = line.split_whitespace();
    if !words.next()?.eq_ignore_ascii_case("nameserver") {
        return None;
    }
    let word = words.next()?;
    let (address, zone) = word.split_once('%').unwrap_or((word, ""));
    let server = match address.parse().ok()? {
        IpAddr::V4(_) if !zone.is_empty() => return None,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT),
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), DNS_PORT),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), DNS_PORT),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, DNS_PORT, 0, zone.parse().unwrap_or(0)).into(),
    };
    Some(server)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Vec<String> {
        nameservers(text.as_bytes())
            .iter()
            .map(SocketAddr::to_string)
            .collect()
    }

    #[test]
    fn what_kubernetes_writes() {
        let text = "search default.svc.cluster.local svc.cluster.local cluster.local\n\
                    nameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(shown(text), ["10.96.0.10:53"]);
    }

    #[test]
    fn odd_files() {
        let text = "\u{feff}# comment\r\n; another\r\n\tNameServer\t10.0.0.1\t# why\r\n\
                    nameserver 10.0.0.1\noptions junk:x ::: rotate\nnameserver\nnameserver x.y\n\
                    nameserver fe80::1%eth0\nnameserver fe80::2%7;x\nnameserver 1.2.3.4%5\n\
                    nameserver10.0.0.9\nnameserver 300.1.1.1\nnameserver ::\nnameserver 2001:db8::1 x";
        let expected = [
            "10.0.0.1:53",
            "[fe80::1]:53",
            "[fe80::2%7]:53",
            "[::1]:53",
            "[2001:db8::1]:53",
        ];
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn none_is_this_host() {
        for text in ["", "\n", "search x", "nameserver", "\0\0"] {
            assert_eq!(shown(text), ["127.0.0.1:53"], "{text:?}");
        }
    }

    fn printed(servers: &[SocketAddr]) -> String {
        let line = |server: &SocketAddr| match server {
            SocketAddr::V4(server) => format!("nameserver {}\n", server.ip()),
            SocketAddr::V6(server) => format!("nameserver {}%{}\n", server.ip(), server.scope_id()),
        };
        servers.iter().map(line).collect()
    }

    proptest! {
        #[test]
        fn no_input_panics_or_yields_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(!nameservers(&bytes).is_empty());
        }

        #[test]
        fn no_line_panics(word in "nameserver[ \t][0-9a-f.:%#; ]{0,40}") {
            prop_assert!(!nameservers(word.as_bytes()).is_empty());
        }

        #[test]
        fn printing_then_parsing_is_the_identity(
            addresses in proptest::collection::hash_set((any::<IpAddr>(), any::<u32>()), 1..6)
        ) {
            let mut servers = Vec::new();
            for (ip, scope) in addresses {
                let server = match ip {
                    IpAddr::V4(ip) => SocketAddr::new(ip.into(), DNS_PORT),
                    IpAddr::V6(ip) => SocketAddrV6::new(ip, DNS_PORT, 0, scope).into(),
                };
                if !ip.is_unspecified() && !servers.contains(&server) {
                    servers.push(server);
                }
            }
            prop_assume!(!servers.is_empty());
            prop_assert_eq!(nameservers(printed(&servers).as_bytes()), servers);
        }
    }
}
