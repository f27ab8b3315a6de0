//! What the records of sockets mean together: a name for an address, a sum for datagrams, one word for what two hooks saw.

use super::Joined;
use super::dns;
use super::network::destination;
use super::record::{Doing, Header, Load, Net, Repeats};
use crate::event::{ActKind, Destination, Proto};

/// Port of DNS.
const DNS_PORT: u16 = 53;

/// What a connection carries so long after it was made inside a load is still said to be inside it, ns. Longer ago nobody
/// knows: whether the file is held is asked when the connection is made, and not at its bytes.
const STILL_IN_LOAD_NS: u64 = 10_000_000_000;

impl Joined {
    pub fn networked(&mut self, doing: Doing, header: Header, load: Load, net: Net, repeats: Repeats) {
        let Some(mut to) = destination(net) else { return };
        if doing != Doing::Bind {
            to.domain = to.ip.and_then(|ip| self.network.name_of(header.cgroup, ip, header.time_ns));
        }
        match doing {
            Doing::Bind => self.acted(header, load, ActKind::Bind(to), repeats),
            Doing::Connect => {
                self.network.made(&header, &load, &to);
                self.acted(header, load, ActKind::Connect(to), repeats);
            }
            // Its packet says the same, and what it asks for.
            Doing::Send if to.proto == Proto::Udp && to.port == Some(DNS_PORT) && self.packets_tell_dns => {}
            Doing::Send => self.sent(header, load, to, net.bytes, repeats),
        }
    }

    pub fn packet(&mut self, header: Header, load: Load, net: Net, payload: &[u8]) {
        let Some(mut to) = destination(net) else { return };
        if to.proto != Proto::Udp && !self.packets_tell_raw {
            return;
        }
        if to.proto == Proto::Udp {
            self.network.asks(net.cookie, header.cgroup);
            to.domain = dns::parse(payload).map(|message| message.name).filter(|name| !name.is_empty());
        }
        let repeats = Repeats::once(header.time_ns);
        self.sent(header, load, to, net.bytes, repeats);
    }

    /// Datagrams, and the sum of what went there where it is time to tell it.
    fn sent(&mut self, header: Header, load: Load, to: Destination, bytes: u64, repeats: Repeats) {
        if let Some((sum, more)) = self.network.datagram(header.task, &to, bytes) {
            let kind = ActKind::Egress { to: to.clone(), bytes: sum, more, accepted: false };
            self.left(header.clone(), load.clone(), header.time_ns, kind);
        }
        self.acted(header, load, ActKind::Send(to), repeats);
    }

    /// Bytes have left by a way that was opened when `header` says.
    pub fn left(&mut self, mut header: Header, mut load: Load, time_ns: u64, kind: ActKind) {
        if time_ns.saturating_sub(header.time_ns) > STILL_IN_LOAD_NS {
            load.artifacts.iter_mut().for_each(|artifact| artifact.held = false);
        }
        header.time_ns = time_ns;
        self.acted_once(header, load, kind);
    }
}
