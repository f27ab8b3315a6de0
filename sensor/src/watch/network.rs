//! Where sockets lead, and what is remembered of them: which names resolvers gave for which addresses, whose connections
//! carry bytes away, and how many went where.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::record::{Header, Load, Net};
use crate::event::{Destination, Family, Proto, TaskKey};
use crate::table::Map;

/// Addresses whose name is remembered.
const NAMES_MAX: usize = 4_096;
/// Sockets that somebody asked a resolver by.
const ASKING_MAX: usize = 1_024;
/// Connections whose end is awaited.
const FLOWS_MAX: usize = 2_048;
/// Destinations whose bytes are counted one by one; what goes elsewhere is in the sum.
const COUNTED_MAX: usize = 1_024;
/// A name is remembered for as long as its resolver says, but at least and at most, s.
const NAME_S_MIN: u64 = 300;
const NAME_S_MAX: u64 = 3_600;
/// Bytes at which datagrams to one destination are told first; then at ten times as much, and so on. As the kernel half
/// does it for connections.
const EGRESS_FIRST_BYTES: u64 = 1 << 20;

/// A table whose oldest entries give way.
#[derive(Debug)]
struct Bounded<K, V> {
    entries: Map<K, V>,
    order: VecDeque<K>,
    max: usize,
}

impl<K: Copy + Eq + std::hash::Hash, V> Bounded<K, V> {
    fn new(max: usize) -> Self {
        Self { entries: Map::default(), order: VecDeque::new(), max }
    }

    fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.order.len() > self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    fn get(&self, key: K) -> Option<&V> {
        self.entries.get(&key)
    }
}

#[derive(Debug)]
struct Named {
    name: String,
    until_ns: u64,
}

/// A connection of a marked process, as it was when it was made or accepted.
#[derive(Debug, Clone)]
pub struct Flow {
    pub header: Header,
    pub load: Load,
    pub to: Destination,
    /// The other end made it.
    pub accepted: bool,
}

/// What names a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum FlowKey {
    /// Who made it, and where it goes: of several to one destination the latest stands for all.
    Made(TaskKey, SocketAddr),
    /// The socket's cookie.
    Accepted(u64),
}

/// What went to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Copy)]
struct Way {
    task: TaskKey,
    proto: Proto,
    ip: Option<IpAddr>,
    port: Option<u16>,
}

impl Way {
    fn of(task: TaskKey, to: &Destination) -> Self {
        Self { task, proto: to.proto, ip: to.ip, port: to.port }
    }
}

/// Bytes that a marked process sent to one destination.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Sent {
    pub pid: u32,
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    pub proto: Proto,
    pub bytes: u64,
}

/// All that is remembered.
#[derive(Debug)]
pub struct Network {
    /// Whose word on a name counts.
    resolvers: Vec<IpAddr>,
    /// What the host's own file calls addresses.
    hosts: Map<IpAddr, String>,
    /// By cgroup too: what one container was told says nothing of another's connections.
    names: Bounded<(u64, IpAddr), Named>,
    asking: Bounded<u64, u64>,
    flows: Bounded<FlowKey, Flow>,
    counted: Map<Way, u64>,
    bytes: u64,
}

impl Network {
    /// A name counts where one of `resolvers` gave it, or it is of `hosts`.
    pub fn new(resolvers: Vec<IpAddr>, hosts: Vec<(IpAddr, String)>) -> Self {
        Self {
            resolvers,
            // The first line about an address counts.
            hosts: hosts.into_iter().rev().collect(),
            names: Bounded::new(NAMES_MAX),
            asking: Bounded::new(ASKING_MAX),
            flows: Bounded::new(FLOWS_MAX),
            counted: Map::default(),
            bytes: 0,
        }
    }

    /// A process in `cgroup` asks a resolver by the socket `cookie`.
    pub fn asks(&mut self, cookie: u64, cgroup: u64) {
        self.asking.insert(cookie, cgroup);
    }

    /// `from` answers the socket `cookie`: these addresses (with their time to live, s) are `name`'s.
    pub fn answers(&mut self, cookie: u64, from: IpAddr, name: &str, addresses: &[(IpAddr, u32)], now_ns: u64) {
        let Some(cgroup) = self.asking.get(cookie).copied() else { return };
        if !self.resolvers.contains(&from) {
            return;
        }
        for (ip, ttl_s) in addresses {
            let seconds = u64::from(*ttl_s).clamp(NAME_S_MIN, NAME_S_MAX);
            let named = Named { name: name.to_owned(), until_ns: now_ns + seconds * 1_000_000_000 };
            self.names.insert((cgroup, ip.to_canonical()), named);
        }
    }

    /// The name that the destination was given for.
    pub fn name_of(&self, cgroup: u64, ip: IpAddr, now_ns: u64) -> Option<String> {
        let ip = ip.to_canonical();
        let answered = self.names.get((cgroup, ip)).filter(|named| now_ns < named.until_ns);
        answered.map(|named| &named.name).or_else(|| self.hosts.get(&ip)).cloned()
    }

    /// A connection is made.
    pub fn made(&mut self, header: &Header, load: &Load, to: &Destination) {
        if let (Some(ip), Some(port), Proto::Tcp | Proto::Mptcp) = (to.ip, to.port, to.proto) {
            let key = FlowKey::Made(header.task, SocketAddr::new(ip.to_canonical(), port));
            let flow = Flow { header: header.clone(), load: load.clone(), to: to.clone(), accepted: false };
            self.flows.insert(key, flow);
        }
    }

    /// A connection was accepted by the socket `cookie`, from `from`.
    pub fn accepted(&mut self, cookie: u64, header: &Header, load: &Load, from: &Destination) {
        if cookie != 0 {
            let flow = Flow { header: header.clone(), load: load.clone(), to: from.clone(), accepted: true };
            self.flows.insert(FlowKey::Accepted(cookie), flow);
        }
    }

    /// A connection that `task` made to `to`, or that the socket `cookie` is, has carried `more` bytes: which one it was.
    pub fn carried(&mut self, task: Option<TaskKey>, cookie: u64, to: Option<SocketAddr>, more: u64) -> Option<Flow> {
        let key = match (task, to) {
            (Some(task), Some(to)) => FlowKey::Made(task, SocketAddr::new(to.ip().to_canonical(), to.port())),
            _ => FlowKey::Accepted(cookie),
        };
        let flow = self.flows.get(key)?.clone();
        self.count(Way::of(flow.header.task, &flow.to), more);
        Some(flow)
    }

    /// A datagram of `bytes` bytes. The sum, where it is time to tell it, and how much of it is new since it was told.
    pub fn datagram(&mut self, task: TaskKey, to: &Destination, bytes: u64) -> Option<(u64, u64)> {
        let way = Way::of(task, to);
        let before = self.counted.get(&way).copied().unwrap_or(0);
        self.count(way, bytes);
        let after = self.counted.get(&way).copied()?;
        let (old, new) = (marks_passed(before), marks_passed(after));
        let told = if old == 0 { 0 } else { EGRESS_FIRST_BYTES.saturating_mul(10u64.saturating_pow(old - 1)) };
        (new > old).then(|| (after, after - told.min(after)))
    }

    fn count(&mut self, way: Way, more: u64) {
        self.bytes = self.bytes.saturating_add(more);
        if self.counted.len() < COUNTED_MAX || self.counted.contains_key(&way) {
            let sum = self.counted.entry(way).or_default();
            *sum = sum.saturating_add(more);
        }
    }

    /// Bytes that marked processes sent, as far as they are known.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where most went, at most `max`.
    pub fn most(&self, max: usize) -> Vec<Sent> {
        let mut sent: Vec<Sent> = self
            .counted
            .iter()
            .map(|(way, bytes)| Sent {
                pid: way.task.tgid,
                ip: way.ip.map(|ip| ip.to_canonical()),
                port: way.port,
                proto: way.proto,
                bytes: *bytes,
            })
            .collect();
        sent.sort_unstable_by(|a, b| b.bytes.cmp(&a.bytes).then(a.pid.cmp(&b.pid)));
        sent.truncate(max);
        sent
    }

    /// A process is gone: what it sent stays in the sum.
    pub fn exited(&mut self, task: TaskKey) {
        // Its connections may outlive it by a moment, and are told then.
        if self.counted.len() >= COUNTED_MAX / 2 {
            self.counted.retain(|way, _| way.task != task);
        }
    }
}

/// `None` for a family that no contract has a word for.
pub fn destination(net: Net) -> Option<Destination> {
    // include/linux/socket.h, include/linux/net.h, include/uapi/linux/in.h
    const AF_PACKET: u16 = 17;
    const AF_VSOCK: u16 = 40;
    const SOCK_DGRAM: u16 = 2;
    const SOCK_RAW: u16 = 3;
    const IPPROTO_ICMP: u16 = 1;
    const IPPROTO_TCP: u16 = 6;
    const IPPROTO_UDP: u16 = 17;
    const IPPROTO_ICMPV6: u16 = 58;
    const IPPROTO_SCTP: u16 = 132;
    const IPPROTO_MPTCP: u16 = 262;
    let family = match (net.family, net.ip) {
        (_, Some(ip)) if ip.is_ipv4() => Family::Inet,
        (_, Some(_)) => Family::Inet6,
        (AF_VSOCK, None) => Family::Vsock,
        (AF_PACKET, None) => Family::Packet,
        _ => return None,
    };
    let proto = match (net.sock_type, net.protocol) {
        (_, IPPROTO_ICMP | IPPROTO_ICMPV6) => Proto::Icmp,
        (_, IPPROTO_SCTP) => Proto::Sctp,
        (_, IPPROTO_MPTCP) => Proto::Mptcp,
        (SOCK_RAW, _) => Proto::Raw,
        (SOCK_DGRAM, _) | (_, IPPROTO_UDP) => Proto::Udp,
        (_, IPPROTO_TCP) => Proto::Tcp,
        _ => Proto::Other,
    };
    let port = net.ip.map(|_| net.port);
    Some(Destination { family, proto, ip: net.ip, port, domain: None })
}

/// How many of 1 MiB, 10 MiB, 100 MiB … are not above `bytes`.
fn marks_passed(bytes: u64) -> u32 {
    bytes.checked_div(EGRESS_FIRST_BYTES).and_then(u64::checked_ilog10).map_or(0, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let hosts = [("203.0.113.1", "first.example"), ("203.0.113.1", "second.example")];
        let hosts = hosts.map(|(address, name)| (ip(address), name.to_owned()));
        Network::new(vec![ip("192.0.2.53")], hosts.to_vec())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn to(port: u16) -> Destination {
        let ip = Some(ip("203.0.113.9"));
        Destination { family: Family::Inet, proto: Proto::Udp, ip, port: Some(port), domain: None }
    }

    const TASK: TaskKey = TaskKey { tgid: 7, start_boottime_ns: 1 };

    #[test]
    fn a_name_counts_from_a_configured_resolver_in_the_same_cgroup_while_it_lives() {
        let mut network = network();
        network.asks(11, 5);
        let given = [(ip("203.0.113.9"), 1)];
        network.answers(11, ip("203.0.113.66"), "forged.example", &given, 0);
        assert_eq!(network.name_of(5, ip("203.0.113.9"), 0), None);
        network.answers(12, ip("192.0.2.53"), "unasked.example", &given, 0);
        assert_eq!(network.name_of(5, ip("203.0.113.9"), 0), None);
        network.answers(11, ip("192.0.2.53"), "models.example", &given, 0);
        assert_eq!(network.name_of(5, ip("::ffff:203.0.113.9"), 1), Some("models.example".to_owned()));
        assert_eq!(network.name_of(6, ip("203.0.113.9"), 1), None);
        assert_eq!(network.name_of(5, ip("203.0.113.9"), NAME_S_MIN * 1_000_000_000), None);
        assert_eq!(network.name_of(6, ip("::ffff:203.0.113.1"), 1), Some("first.example".to_owned()));
    }

    #[test]
    fn datagrams_are_told_at_one_mebibyte_and_at_ten_times_as_much() {
        let mut network = network();
        let half = EGRESS_FIRST_BYTES / 2;
        assert_eq!(network.datagram(TASK, &to(1), half), None);
        assert_eq!(network.datagram(TASK, &to(1), half), Some((2 * half, 2 * half)));
        assert_eq!(network.datagram(TASK, &to(1), half), None);
        assert_eq!(network.datagram(TASK, &to(2), half), None);
        let ten = 10 * EGRESS_FIRST_BYTES;
        assert_eq!(network.datagram(TASK, &to(1), ten).map(|(sum, _)| sum), Some(ten + 3 * half));
        assert_eq!(network.bytes(), ten + 4 * half);
        assert_eq!(network.most(1), [Sent { bytes: ten + 3 * half, ..network.most(2)[0].clone() }]);
    }

    #[test]
    fn a_flood_of_destinations_takes_no_more_room() {
        let mut network = network();
        for port in 0..=u16::MAX {
            network.datagram(TASK, &to(port), 1);
            network.asks(u64::from(port), 1);
        }
        assert_eq!(network.counted.len(), COUNTED_MAX);
        assert_eq!((network.asking.order.len(), network.asking.entries.len()), (ASKING_MAX, ASKING_MAX));
        assert_eq!(network.bytes(), 65_536);
    }
}
