//! Every way out of a process, and every door into it: the listener heard it, and the alert says where it went, by which
//! protocol, who did it, and which model was loaded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::actor::{Actor, Finished};
use crate::alert::{Alert, Alerts};
use crate::daemon::Daemon;
use crate::harness::{CONFIG, Case};
use crate::helper::SENT;
use crate::lab::{self, Room};
use crate::model::Content;
use crate::namespace::{OTHER4, PUBLIC4, PUBLIC6, RESOLVER4};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        tcp("tcp_nonblocking", "tcp_nonblocking", "tcp"),
        tcp("fast_open", "fast_open", "tcp"),
        tcp("uring_connect", "uring_connect", "tcp"),
        udp("udp_connected", "udp_connected"),
        udp("udp_written", "udp_written"),
        udp("uring_sendmsg", "uring_sendmsg"),
        Case::shared("network::sendmmsg", sendmmsg),
        Case::shared("network::udp_connect_alone_is_no_alert", udp_connect_alone),
        Case::shared("network::changing_address", changing),
        Case::shared("network::icmp", icmp),
        Case::shared("network::raw_ip", raw_ip),
        Case::shared("network::packet", packet),
        Case::shared("network::vsock", vsock),
        Case::shared("network::unix_proxy", |room| unix(room, &room.dir.join("proxy.sock"), "")),
        Case::shared("network::unix_datagram", unix_datagram),
        Case::shared("network::unix_quiet_after_a_clean_load", unix_quiet),
        Case::shared("network::datagram_door", datagram_door),
        Case::shared("network::names", names),
        Case::shared("network::bytes_of_a_connection", bytes),
        Case::shared("network::server_of_a_clean_model", server),
        Case::alone("network::bytes_in_the_status", bytes_in_the_status),
    ];
    if Path::new("/proc/sys/net/mptcp").exists() {
        cases.push(tcp("mptcp", "mptcp", "mptcp"));
    } else {
        eprintln!("left out on a kernel without it: MPTCP");
    }
    for (name, path) in [("docker", "/run/docker.sock"), ("dbus", "/run/dbus/system_bus_socket")] {
        cases.push(Case::shared(format!("network::unix_{name}"), move |room| {
            std::fs::create_dir_all("/run/dbus")?;
            unix(room, Path::new(path), "")
        }));
    }
    for (name, host) in [("4", PUBLIC4), ("6", PUBLIC6)] {
        cases.push(Case::shared(format!("network::door{name}"), move |room| door(room, host)));
    }
    cases
}

/// What a case remembers of its act.
struct Trace {
    model: String,
    truth: Finished,
}

impl Trace {
    /// Loads a malicious pickle that runs `code`, and lets it finish.
    fn of(room: &Room<'_>, code: &str) -> Result<Self> {
        Self::finished(room, code, |_| Ok(()))
    }

    /// The same, with something to do meanwhile.
    fn finished(room: &Room<'_>, code: &str, meanwhile: impl FnOnce(&mut Actor) -> Result<()>) -> Result<Self> {
        let model = room.model("model.pkl", Content::Payload(&format!("import sockets\n{code}")))?;
        let mut actor = Actor::start(&mut room.python("load()", &[&model]))?;
        meanwhile(&mut actor)?;
        let truth = actor.finish()?.succeeded()?;
        Ok(Self { model: model.to_str().context("a path that is text")?.to_owned(), truth })
    }

    /// Alerts of this kind about this model.
    fn all(&self, alerts: &Alerts, kind: &str) -> Alerts {
        alerts.filter(|alert| alert.text("/model/path") == self.model && alert.text("/event/kind") == kind)
    }

    /// The last of them: critical, in the load, by the process that said so.
    fn one<'a>(&self, alerts: &'a Alerts, kind: &str) -> Result<&'a Alert> {
        let wanted = self.all(alerts, kind);
        let line = &wanted.last(kind)?.line;
        let alert = alerts.0.iter().rfind(|alert| &alert.line == line).context("it is there")?;
        self.is_own(alert)?;
        alert.is("/severity", "critical")
    }

    fn is_own(&self, alert: &Alert) -> Result<()> {
        let did = self.truth.what("did")?;
        for field in ["pid", "exe", "argv", "uid"] {
            alert.is(&format!("/process/{field}"), did[field].clone())?;
        }
        alert.is("/event/in_load", true)?.is("/model/verdict", "malicious")?;
        Ok(())
    }
}

/// The alert's address.
fn is_at<'a>(alert: &'a Alert, ip: &str, port: u16, proto: &str) -> Result<&'a Alert> {
    let family = if ip.contains(':') { "inet6" } else { "inet" };
    alert.is("/event/ip", ip)?.is("/event/port", port)?.is("/event/proto", proto)?.is("/event/family", family)
}

fn tcp(name: &'static str, function: &'static str, proto: &'static str) -> Case {
    Case::shared(format!("network::{name}"), move |room| {
        let listener = room.tcp(PUBLIC4)?;
        let trace = Trace::of(room, &format!("sockets.{function}({})", listener.python()))?;
        listener.was_reached()?;
        Ok(move |alerts: &Alerts| {
            is_at(trace.one(alerts, "connect")?, PUBLIC4, listener.port(), proto)?.is("/incident/count", 1)?;
            Ok(())
        })
    })
}

fn udp(name: &'static str, function: &'static str) -> Case {
    Case::shared(format!("network::{name}"), move |room| {
        let listener = room.udp(PUBLIC4)?;
        let trace = Trace::of(room, &format!("sockets.{function}({})", listener.python()))?;
        listener.was_reached()?;
        Ok(move |alerts: &Alerts| {
            is_at(trace.one(alerts, "send")?, PUBLIC4, listener.port(), "udp")?.is("/incident/count", 1)?;
            trace.all(alerts, "connect").none("a UDP connect sends nothing")
        })
    })
}

fn sendmmsg(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let (one, other) = (room.udp(PUBLIC4)?, room.udp(OTHER4)?);
    let trace = Trace::of(room, &format!("sockets.sendmmsg([({}), ({})])", one.python(), other.python()))?;
    one.was_reached()?;
    other.was_reached()?;
    Ok(move |alerts: &Alerts| {
        for listener in [one, other] {
            let sends = trace.all(alerts, "send").port(listener.port());
            let alert = sends.last("each datagram of the call")?;
            trace.is_own(alert)?;
            is_at(alert, &listener.host(), listener.port(), "udp")?;
        }
        Ok(())
    })
}

/// Sends nothing, so it is told in the story of what comes later alone.
fn udp_connect_alone(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let (silent, later, never) = (room.udp(PUBLIC4)?, room.tcp(OTHER4)?, room.port());
    let code = format!("sockets.udp_connect_only({}, {never})\ntcp({})", silent.python(), later.python());
    let trace = Trace::of(room, &code)?;
    later.was_reached()?;
    Ok(move |alerts: &Alerts| {
        let port = Value::from(silent.port());
        alerts.filter(|alert| alert.at("/event/port") == &port).none("a UDP connect sends nothing")?;
        let told = trace.one(alerts, "connect")?;
        let moments = told.at("/timeline").as_array().context("a timeline")?;
        let connect = moments.iter().find(|moment| moment["port"] == port).context("it stands in the timeline")?;
        ensure!(connect["kind"] == "connect" && connect["proto"] == "udp" && connect["ip"] == PUBLIC4, "{connect}");
        ensure!(moments.iter().all(|moment| moment["port"] != never), "a disconnect is told: {moments:?}");
        Ok(())
    })
}

/// The address changes in memory while the kernel reads it: what it read is what is told.
fn changing(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    const TIMES: u64 = 300;
    let port = room.port();
    let listeners = [PUBLIC4, OTHER4].map(|host| accept_all(host, port));
    let trace = Trace::of(room, &format!("sockets.changing([{PUBLIC4:?}, {OTHER4:?}], {port}, {TIMES})"))?;
    let mut accepted = Vec::new();
    for listener in listeners {
        accepted.push(listener?.finish(port)?);
    }
    ensure!(accepted.iter().sum::<u64>() == TIMES, "{accepted:?} of {TIMES} connections arrived");
    let reached = trace.truth.what("reached")?["reached"].clone();
    Ok(move |alerts: &Alerts| {
        for (host, accepted) in [PUBLIC4, OTHER4].into_iter().zip(accepted) {
            ensure!(reached[host] == accepted, "{reached} against {accepted} at {host}");
            let connects = trace.all(alerts, "connect").filter(|alert| alert.text("/event/ip") == host);
            match connects.0.last() {
                Some(alert) => drop(alert.is("/incident/count", accepted)?),
                None => ensure!(accepted == 0, "{accepted} connections to {host} were not told"),
            }
        }
        Ok(())
    })
}

/// Counts connections until one of ours says that it is enough.
struct Counting {
    host: &'static str,
    thread: std::thread::JoinHandle<u64>,
}

const ENOUGH: &[u8] = b"enough";

fn accept_all(host: &'static str, port: u16) -> Result<Counting> {
    let listener = TcpListener::bind((host, port))?;
    let thread = std::thread::spawn(move || {
        let mut count = 0;
        for connection in listener.incoming() {
            let mut text = Vec::new();
            if connection.and_then(|mut connection| connection.read_to_end(&mut text)).is_ok() && text == ENOUGH {
                break;
            }
            count += 1;
        }
        count
    });
    Ok(Counting { host, thread })
}

impl Counting {
    fn finish(self, port: u16) -> Result<u64> {
        TcpStream::connect((self.host, port))?.write_all(ENOUGH)?;
        self.thread.join().map_err(|_| anyhow::anyhow!("the listener panicked"))
    }
}

/// A process that loads nothing and says what it hears.
fn witness(room: &Room<'_>, arguments: &str) -> Result<Actor> {
    let mut witness = Actor::start(&mut room.python(&format!("import sockets\nsockets.witness({arguments})"), &[]))?;
    witness.wait_said("ready")?;
    Ok(witness)
}

fn icmp(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    // Its own address: a raw socket hears everybody's packets to the one that it is bound to.
    const HOST: &str = "203.0.113.21";
    let ear = witness(room, &format!("socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP, ({HOST:?}, 0)"))?;
    let trace = Trace::of(room, &format!("sockets.icmp({HOST:?})"))?;
    ear.finish()?.succeeded()?.what("heard")?;
    Ok(move |alerts: &Alerts| {
        let alert = trace.one(alerts, "send")?;
        alert.is("/event/ip", HOST)?.is("/event/proto", "icmp")?.is("/event/family", "inet")?;
        alert.is("/incident/count", 1).map(drop)
    })
}

fn raw_ip(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    const HOST: &str = "203.0.113.22";
    // RFC 3692: for experiments.
    const PROTOCOL: u8 = 253;
    let ear = witness(room, &format!("socket.AF_INET, socket.SOCK_RAW, {PROTOCOL}, ({HOST:?}, 0)"))?;
    let trace = Trace::of(room, &format!("sockets.raw_ip({HOST:?}, {PROTOCOL})"))?;
    ear.finish()?.succeeded()?.what("heard")?;
    Ok(move |alerts: &Alerts| {
        let alert = trace.one(alerts, "send")?;
        alert.is("/event/ip", HOST)?.is("/event/proto", "raw")?.is("/event/family", "inet")?;
        alert.is("/incident/count", 1).map(drop)
    })
}

fn packet(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let ear = witness(
        room,
        "socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(sockets.ETHERTYPE), ('lo', sockets.ETHERTYPE)",
    )?;
    let trace = Trace::of(room, "sockets.packet('lo')")?;
    ear.finish()?.succeeded()?.what("heard")?;
    Ok(move |alerts: &Alerts| {
        let alert = trace.one(alerts, "send")?;
        alert.is("/event/family", "packet")?.is("/event/ip", Value::Null)?.is("/event/port", Value::Null)?;
        alert.is("/incident/count", 1).map(drop)
    })
}

fn vsock(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let code = "try:\n  sockets.vsock(1, 1234)\nexcept OSError as error:\n  say(no_vsock=str(error))\n";
    let trace = Trace::of(room, code)?;
    if let Ok(why) = trace.truth.what("no_vsock") {
        println!("network::vsock: nothing to see, this kernel has none: {why}");
        return Ok(Box::new(|_: &Alerts| Ok(())) as Box<dyn FnOnce(&Alerts) -> Result<()> + Send>);
    }
    Ok(Box::new(move |alerts: &Alerts| {
        let alert = trace.one(alerts, "connect")?;
        alert.is("/event/family", "vsock")?.is("/event/ip", Value::Null)?.is("/event/port", Value::Null)?;
        Ok(())
    }))
}

/// Somebody listens at the unix socket `path`; the name in the alert is his.
fn unix(room: &Room<'_>, path: &Path, before: &str) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    let trace = Trace::of(room, &format!("{before}sockets.unix({path:?})"))?;
    let mut heard = Vec::new();
    listener.accept()?.0.read_to_end(&mut heard)?;
    ensure!(heard == SENT, "{heard:?} arrived at {}", path.display());
    let path = path.to_str().context("a path that is text")?.to_owned();
    Ok(move |alerts: &Alerts| {
        let alert = trace.one(alerts, "unix")?;
        alert.is("/event/path", path)?.is("/event/family", "unix")?.is("/event/ip", Value::Null)?;
        alert.is("/incident/count", 1).map(drop)
    })
}

fn unix_datagram(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let path = room.dir.join("datagrams.sock");
    let listener = UnixDatagram::bind(&path)?;
    let trace = Trace::of(room, &format!("sockets.unix_datagram({path:?})"))?;
    let mut heard = [0; 64];
    let len = listener.recv(&mut heard)?;
    ensure!(heard[..len] == *SENT, "{:?} arrived", &heard[..len]);
    let path = path.to_str().context("a path that is text")?.to_owned();
    // Where no security function can be entered, only sockets that are connected are seen; `doctor` says so.
    let is_seen = !lab::rung("unix_datagram")?.is_empty();
    Ok(move |alerts: &Alerts| {
        if !is_seen {
            return trace.all(alerts, "unix").none("doctor says that it isn't seen");
        }
        trace.one(alerts, "unix")?.is("/event/path", path).map(drop)
    })
}

/// Libraries talk to their neighbours all day; a control socket is as a shell even then.
fn unix_quiet(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let quiet = room.dir.join("neighbour.sock");
    let control = Path::new("/run/podman/podman.sock");
    std::fs::create_dir_all("/run/podman")?;
    let listeners = [UnixListener::bind(&quiet)?, UnixListener::bind(control)?];
    let model = room.model("model.pkl", Content::CleanPickle)?;
    let code = format!("import sockets\nload()\nsockets.unix({quiet:?})\nsockets.unix({control:?})");
    room.run_python(&code, &model)?;
    for listener in listeners {
        let mut heard = Vec::new();
        listener.accept()?.0.read_to_end(&mut heard)?;
        ensure!(heard == SENT, "{heard:?} arrived");
    }
    let model = model.to_str().context("a path that is text")?.to_owned();
    Ok(move |alerts: &Alerts| {
        let own = alerts.kind("unix").filter(|alert| alert.text("/model/path") == model);
        let of = |path: &Path| own.filter(|alert| Path::new(alert.text("/event/path")) == path);
        of(control).last("the control socket")?.is("/severity", "medium")?;
        of(&quiet).none_above("low", "this is what ordinary loads do")
    })
}

/// A shell would wait behind such a door: who came through it is known.
fn door(room: &Room<'_>, host: &'static str) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let address = SocketAddr::new(host.parse()?, room.port());
    let mut own_port = 0;
    let trace = Trace::finished(room, &format!("sockets.door({host:?}, {})", address.port()), |actor| {
        actor.wait_said("listening")?;
        let mut connection = TcpStream::connect(address)?;
        own_port = connection.local_addr()?.port();
        connection.write_all(SENT)?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer)?;
        ensure!(answer == SENT, "{answer:?} came back");
        Ok(())
    })?;
    ensure!(trace.truth.what("peer")?["peer"] == own_port, "{:?}", trace.truth.said);
    Ok(move |alerts: &Alerts| {
        is_at(trace.one(alerts, "bind")?, host, address.port(), "tcp")?.is("/incident/count", 1)?;
        let accept = is_at(trace.one(alerts, "accept")?, host, address.port(), "tcp")?;
        accept.is("/event/peer_ip", host)?.is("/event/peer_port", own_port)?.is("/incident/count", 1)?;
        trace.one(alerts, "egress")?.is("/event/bytes", SENT.len())?;
        Ok(())
    })
}

fn datagram_door(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let port = room.port();
    let trace = Trace::finished(room, &format!("sockets.datagram_door({PUBLIC4:?}, {port})"), |actor| {
        actor.wait_said("listening")?;
        UdpSocket::bind((OTHER4, 0))?.send_to(SENT, (PUBLIC4, port))?;
        Ok(())
    })?;
    ensure!(trace.truth.what("heard")?["heard"].as_str().map(str::as_bytes) == Some(SENT), "{:?}", trace.truth.said);
    Ok(move |alerts: &Alerts| is_at(trace.one(alerts, "bind")?, PUBLIC4, port, "udp").map(drop))
}

/// What the resolver was asked stands in the event, and its answer gives later connections their name.
fn names(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    const NAME: &str = "Models.Example.org";
    let listener = room.tcp(PUBLIC4)?;
    let serve = format!("import sockets\nsockets.resolver({RESOLVER4:?}, {{{:?}: {PUBLIC4:?}}})", NAME.to_lowercase());
    let mut resolver = Actor::start(&mut room.python(&serve, &[]))?;
    resolver.wait_said("ready")?;
    let code = format!("tcp(sockets.resolve({NAME:?}), {})", listener.port());
    let trace = Trace::of(room, &code)?;
    listener.was_reached()?;
    // A clean file's load asks too, and is not heard.
    let clean = room.model("clean.pkl", Content::CleanPickle)?;
    room.run_python(&format!("import sockets\nload()\nsockets.resolve({NAME:?})"), &clean)?;
    let heard = resolver.finish()?.succeeded()?;
    let asked = heard.said.iter().filter(|line| line["asked"] == NAME).count();
    ensure!(asked >= 2, "the resolver heard {:?}", heard.said);
    let clean = clean.to_str().context("a path that is text")?.to_owned();
    Ok(move |alerts: &Alerts| {
        let dns = is_at(trace.one(alerts, "dns")?, RESOLVER4, 53, "udp")?;
        dns.is("/event/domain", NAME.to_lowercase())?;
        let connect = is_at(trace.one(alerts, "connect")?, PUBLIC4, listener.port(), "tcp")?;
        connect.is("/event/domain", NAME.to_lowercase())?;
        let quiet = alerts.filter(|alert| alert.text("/model/path") == clean);
        quiet.none_above("info", "asking the resolver is ordinary")
    })
}

/// Takes so many bytes, then closes.
fn swallow(listener: TcpListener, count: usize) -> std::thread::JoinHandle<Result<()>> {
    std::thread::spawn(move || {
        let mut connection = listener.accept()?.0;
        let mut buffer = vec![0; 1 << 16];
        let mut sum = 0;
        loop {
            match connection.read(&mut buffer)? {
                0 => break,
                len => sum += len,
            }
        }
        ensure!(sum == count, "{sum} of {count} bytes arrived");
        Ok(())
    })
}

fn bytes(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    const COUNT: usize = (3 << 20) + 7;
    let port = room.port();
    let end = swallow(TcpListener::bind((PUBLIC4, port))?, COUNT);
    let trace = Trace::of(room, &format!("sockets.tcp_bytes({PUBLIC4:?}, {port}, {COUNT})"))?;
    end.join().map_err(|_| anyhow::anyhow!("the listener panicked"))??;
    Ok(move |alerts: &Alerts| {
        let told = trace.all(alerts, "egress");
        ensure!(!told.0.is_empty(), "nothing is told of {COUNT} bytes");
        let last = is_at(trace.one(alerts, "egress")?, PUBLIC4, port, "tcp")?.is("/event/bytes", COUNT)?;
        let moments = last.at("/timeline").as_array().context("a timeline")?;
        let moment = moments.iter().find(|moment| moment["kind"] == "egress").context("it stands in the timeline")?;
        ensure!(moment["bytes"] == COUNT && moment["port"] == port, "{moment}");
        Ok(())
    })
}

/// An inference server: it loads, listens, and answers on its own network.
fn server(room: &Room<'_>) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let port = room.port();
    let model = room.model("model.pkl", Content::CleanPickle)?;
    let code = format!("import sockets\nload()\nsockets.door('0.0.0.0', {port})");
    let mut actor = Actor::start(&mut room.python(&code, &[&model]))?;
    actor.wait_said("listening")?;
    let mut connection = TcpStream::connect((PUBLIC4, port))?;
    connection.write_all(SENT)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    ensure!(answer == SENT, "{answer:?} came back");
    actor.finish()?.succeeded()?;
    let model = model.to_str().context("a path that is text")?.to_owned();
    Ok(move |alerts: &Alerts| {
        let own = alerts.filter(|alert| alert.text("/model/path") == model);
        own.none_above("low", "this is what inference servers do")
    })
}

fn bytes_in_the_status(room: &Room<'_>) -> Result<()> {
    const COUNT: usize = 100_000;
    let daemon = Daemon::start(&room.dir.join("daemon"), CONFIG)?;
    let port = room.port();
    let end = swallow(TcpListener::bind((PUBLIC4, port))?, COUNT);
    let trace = Trace::of(room, &format!("sockets.tcp_bytes({PUBLIC4:?}, {port}, {COUNT})"))?;
    end.join().map_err(|_| anyhow::anyhow!("the listener panicked"))??;
    daemon.wait_for("the bytes", |alert| alert.text("/event/kind") == "egress")?;
    let told = lab::json_output(&["status"], "status")?;
    let sent = told["sent"].as_array().context("where most went")?;
    let way = sent.iter().find(|way| way["port"] == port).with_context(|| format!("not in {told}"))?;
    let pid = &trace.truth.what("did")?["pid"];
    ensure!(way["bytes"] == COUNT && way["ip"] == PUBLIC4 && way["proto"] == "tcp" && &way["pid"] == pid, "{way}");
    ensure!(told["counts"]["bytes_sent"].as_u64() >= Some(COUNT as u64), "{told}");
    daemon.stop(Signal::TERM)?;
    Ok(())
}
