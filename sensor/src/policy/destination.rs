//! Destination classes: `rules/destinations.toml` and the operator's own networks.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt;

use globset::GlobSet;
use ipnet::IpNet;
use serde::Deserialize;

use super::severity::Effect;
use crate::event::Destination;

const EMBEDDED: &str = include_str!("../../../rules/destinations.toml");

/// Port of DNS.
pub const DNS_PORT: u16 = 53;

/// Class of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    Metadata,
    Loopback,
    LinkLocal,
    Cluster,
    Private,
    Public,
}

impl Class {
    /// The effect that the severity table knows it by.
    pub fn effect(self) -> Effect {
        match self {
            Self::Metadata => Effect::Metadata,
            Self::Loopback => Effect::Loopback,
            Self::LinkLocal => Effect::LinkLocal,
            Self::Cluster => Effect::Cluster,
            Self::Private => Effect::Private,
            Self::Public => Effect::Public,
        }
    }
}

/// What only this host knows.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Networks that count as the cluster.
    pub cluster: Vec<IpNet>,
    /// The configured resolvers.
    pub resolvers: Vec<IpAddr>,
    /// Names that need no resolver.
    pub hosts: Vec<(IpAddr, String)>,
}

/// All that decides a class.
#[derive(Debug, Clone)]
pub struct Destinations {
    metadata: Vec<IpAddr>,
    loopback: Vec<Range>,
    link_local: Vec<Range>,
    private: Vec<Range>,
    known_services: Vec<String>,
    control_sockets: GlobSet,
    cluster: Vec<Range>,
    resolvers: Vec<IpAddr>,
}

/// All addresses from one to another, as numbers: a network, of which this is asked for every destination.
#[derive(Debug, Clone, Copy)]
struct Range {
    is_v4: bool,
    first: u128,
    last: u128,
}

impl From<IpNet> for Range {
    fn from(net: IpNet) -> Self {
        let (is_v4, first) = number(net.network());
        Self { is_v4, first, last: number(net.broadcast()).1 }
    }
}

fn number(ip: IpAddr) -> (bool, u128) {
    match ip {
        IpAddr::V4(ip) => (true, ip.to_bits().into()),
        IpAddr::V6(ip) => (false, ip.to_bits()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    metadata: Vec<IpAddr>,
    loopback: Vec<String>,
    link_local: Vec<String>,
    private: Vec<String>,
    known_services: Vec<String>,
    control_sockets: Vec<String>,
}

impl Destinations {
    /// The classes that the program carries, with this host's networks.
    ///
    /// # Errors
    /// What is wrong with the embedded file; a test holds that nothing is.
    pub fn embedded(network: Network) -> Result<Self, String> {
        let file: File = toml::from_str(EMBEDDED).map_err(|error| format!("destinations.toml: {error}"))?;
        let nets = |texts: Vec<String>| -> Result<Vec<Range>, String> {
            let net = |text: &String| text.parse::<IpNet>().map(Range::from);
            let say = |text: &String| format!("destinations.toml: {text} is no network");
            texts.iter().map(|text| net(text).map_err(|_| say(text))).collect()
        };
        Ok(Self {
            metadata: file.metadata,
            loopback: nets(file.loopback)?,
            link_local: nets(file.link_local)?,
            private: nets(file.private)?,
            known_services: file.known_services,
            control_sockets: super::program::paths(&file.control_sockets)
                .map_err(|error| format!("destinations.toml: {error}"))?,
            cluster: network.cluster.into_iter().map(Range::from).collect(),
            resolvers: network.resolvers,
        })
    }

    /// Class of an address; the first that holds it.
    pub fn class_of(&self, ip: IpAddr) -> Class {
        let ip = embedded_v4(ip);
        let (is_v4, number) = number(ip);
        let has = |range: &Range| range.is_v4 == is_v4 && range.first <= number && number <= range.last;
        let within = |ranges: &[Range]| ranges.iter().any(has);
        if self.metadata.contains(&ip) {
            Class::Metadata
        } else if within(&self.loopback) {
            Class::Loopback
        } else if within(&self.link_local) {
            Class::LinkLocal
        } else if within(&self.cluster) {
            Class::Cluster
        } else if within(&self.private) {
            Class::Private
        } else {
            Class::Public
        }
    }

    /// Class of a destination. What has no address leaves by ways that cannot be placed, so it counts as public.
    pub fn class(&self, destination: &Destination) -> Class {
        destination.ip.map_or(Class::Public, |ip| self.class_of(ip))
    }

    /// Is this a configured resolver's port 53?
    pub fn is_resolver(&self, destination: &Destination) -> bool {
        destination.port == Some(DNS_PORT) && destination.ip.is_some_and(|ip| self.resolvers.contains(&embedded_v4(ip)))
    }

    /// Does whoever listens at this unix socket act for those who ask it?
    pub fn is_control(&self, path: &[u8]) -> bool {
        let path = path.strip_prefix(b"/var").filter(|rest| rest.starts_with(b"/run/")).unwrap_or(path);
        self.control_sockets.is_match(OsStr::from_bytes(path))
    }

    /// Is it a service known by name?
    pub fn is_known_service(&self, destination: &Destination) -> bool {
        destination
            .domain
            .as_deref()
            .is_some_and(|domain| self.known_services.iter().any(|suffix| within_domain(domain, suffix)))
    }
}

/// Is `domain` the domain `suffix`, or below it? Case and a final dot don't matter.
pub fn within_domain(domain: &str, suffix: &str) -> bool {
    let domain = domain.strip_suffix('.').unwrap_or(domain).as_bytes();
    let suffix = suffix.as_bytes();
    let Some(start) = domain.len().checked_sub(suffix.len()) else { return false };
    domain[start..].eq_ignore_ascii_case(suffix) && (start == 0 || domain[start - 1] == b'.')
}

/// The IPv4 address that an IPv6 one stands for: mapped (RFC 4291 2.5.5.2) or NAT64 (RFC 6052, 64:ff9b::/96).
fn embedded_v4(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let octets = v6.octets();
    if octets[..12] == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0] {
        return Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]).into();
    }
    ip
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Family, Proto};

    fn destinations() -> Destinations {
        Destinations::embedded(Network {
            cluster: vec!["10.96.0.0/12".parse().unwrap(), "fd12::/16".parse().unwrap()],
            resolvers: vec!["10.96.0.10".parse().unwrap()],
            hosts: Vec::new(),
        })
        .unwrap()
    }

    #[test]
    fn every_address_has_the_class_of_the_first_network_that_holds_it() {
        let cases = [
            ("169.254.169.254", Class::Metadata),
            ("::ffff:169.254.169.254", Class::Metadata),
            ("64:ff9b::169.254.169.254", Class::Metadata),
            ("fd00:ec2::254", Class::Metadata),
            ("100.100.100.200", Class::Metadata),
            ("127.0.0.1", Class::Loopback),
            ("127.255.0.9", Class::Loopback),
            ("0.0.0.0", Class::Loopback),
            ("::", Class::Loopback),
            ("::1", Class::Loopback),
            ("::ffff:127.0.0.1", Class::Loopback),
            ("169.254.1.1", Class::LinkLocal),
            ("fe80::1", Class::LinkLocal),
            ("10.96.0.1", Class::Cluster),
            ("10.111.255.255", Class::Cluster),
            ("fd12::5", Class::Cluster),
            ("10.112.0.1", Class::Private),
            ("172.16.0.1", Class::Private),
            ("172.32.0.1", Class::Public),
            ("192.168.255.1", Class::Private),
            ("100.64.0.1", Class::Private),
            ("100.128.0.1", Class::Public),
            ("fd13::5", Class::Private),
            ("224.0.0.251", Class::Private),
            ("255.255.255.255", Class::Private),
            ("ff02::1", Class::Private),
            ("192.0.2.1", Class::Public),
            ("198.51.100.7", Class::Public),
            ("203.0.113.9", Class::Public),
            ("2001:db8::1", Class::Public),
            ("8.8.8.8", Class::Public),
            ("2606:4700::1", Class::Public),
            ("::ffff:8.8.8.8", Class::Public),
        ];
        let destinations = destinations();
        for (text, class) in cases {
            assert_eq!(destinations.class_of(text.parse().unwrap()), class, "{text}");
        }
    }

    #[test]
    fn families_without_an_address_count_as_public() {
        let of = |family| Destination { family, proto: Proto::Other, ip: None, port: None, domain: None };
        let destinations = destinations();
        assert_eq!(destinations.class(&of(Family::Vsock)), Class::Public);
        assert_eq!(destinations.class(&of(Family::Packet)), Class::Public);
    }

    #[test]
    fn control_sockets_are_known_by_the_name_that_their_owner_gave_them() {
        let destinations = destinations();
        for path in [
            "/run/docker.sock",
            "/var/run/docker.sock",
            "/run/containerd/containerd.sock",
            "/run/user/1000/bus",
            "/tmp/ssh-Xa1b2/agent.4711",
            "/run/user/1000/gnupg/S.gpg-agent",
            "/run/user/1000/gnupg/d.abc/S.gpg-agent.ssh",
            "/tmp/tmux-1000/default",
        ] {
            assert!(destinations.is_control(path.as_bytes()), "{path}");
        }
        for path in ["/run/nscd/socket", "/tmp/docker.sock.txt", "@/tmp/.X11-unix/X0", "/run/user/1000/pulse/native"] {
            assert!(!destinations.is_control(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_resolver_is_the_address_and_the_port() {
        let of = |ip: &str, port| Destination {
            family: Family::Inet,
            proto: Proto::Udp,
            ip: Some(ip.parse().unwrap()),
            port: Some(port),
            domain: None,
        };
        let destinations = destinations();
        assert!(destinations.is_resolver(&of("10.96.0.10", 53)));
        assert!(destinations.is_resolver(&of("::ffff:10.96.0.10", 53)));
        assert!(!destinations.is_resolver(&of("10.96.0.10", 54)));
        assert!(!destinations.is_resolver(&of("8.8.8.8", 53)));
    }

    #[test]
    fn a_domain_is_below_another_by_whole_labels() {
        assert!(within_domain("huggingface.co", "huggingface.co"));
        assert!(within_domain("CDN.huggingface.CO.", "huggingface.co"));
        assert!(!within_domain("evilhuggingface.co", "huggingface.co"));
        assert!(!within_domain("huggingface.co.evil.example", "huggingface.co"));
        assert!(!within_domain("co", "huggingface.co"));
        assert!(!within_domain("é.co", "xhuggingface.co"));
    }
}
