//! Callables that act by themselves, reach objects by name, or exhaust their reader; and makers that look like them.

use super::{Pickle, clean, malicious, see, see_as, suspicious};
use crate::limits::Limits;
use crate::verdict::Verdict;

fn called(module: &str, name: &str, text: &str) -> Vec<u8> {
    Pickle::new().global(module, name).text(text).op(b"\x85R").stop()
}

#[test]
fn constructors_of_frameworks_that_act_at_once() {
    for (module, name) in [
        ("scipy.io", "FortranFile"),
        ("sklearn.utils._testing", "TempMemmap"),
        ("torch._C", "PyTorchFileWriter"),
        ("torch.cuda.memory", "CUDAPluggableAllocator"),
        ("nltk.corpus.reader.util", "PickleCorpusView"),
    ] {
        let path_and_mode = Pickle::new().global(module, name).text("a").text("w").op(b"\x86R").stop();
        malicious(&path_and_mode, if module.starts_with("nltk") { "SNS-110" } else { "SNS-101" });
    }
}

#[test]
fn other_functions_of_known_packages_than_their_makers() {
    malicious(&called("numpy.tools.x", "anything", "a"), "SNS-103");
    suspicious(&called("scipy.stats", "no_such_function", "a"), "SNS-103");
    suspicious(&called("pandas", "no_such_function", "a"), "SNS-103");
    clean(&called("pandas._libs.x", "_unpickle_block", "a"));
    clean(&called("mynet", "make_layer", "a"));
}

#[test]
fn objects_by_two_names() {
    for (module, name) in [("numpy.core", "_ufunc_reconstruct"), ("scipy._lib._uarray._backend", "unpickle_function")] {
        let pair = |module_named: &str, name_named: &str| {
            Pickle::new().global(module, name).text(module_named).text(name_named).op(b"\x86R")
        };
        malicious(&pair("os", "system").stop(), "SNS-101");
        malicious(&pair("os", "system").text("id").op(b"\x85R").stop(), "SNS-101");
        suspicious(&pair("nobody_knows", "x").stop(), "SNS-101");
        clean(&pair("numpy", "add").stop());
    }
}

#[test]
fn bound_and_handed_on() {
    let handed = Pickle::new().global("builtins", "getattr").global("torch", "tensor").op(b"K\x01\x85R");
    malicious(&handed.text("apply_").op(b"\x86R").global("os", "system").op(b"\x85R").stop(), "SNS-102");
    malicious(
        &Pickle::new().global("builtins", "type.__call__").global("subprocess", "Popen").text("id").op(b"\x86R").stop(),
        "SNS-101",
    );
    malicious(&called("os", "environ.update", "x"), "SNS-101");
}

#[test]
fn a_constructor_called_with_keywords_by_protocols_2_and_3() {
    // partial(getattr(cls, "__new__"), cls)()
    let new = Pickle::new().global("functools", "partial").global("builtins", "getattr").global("mynet", "Net");
    let new = new.text("__new__").op(b"\x86R").global("mynet", "Net").op(b"\x86R)R");
    clean(&new.stop());
}

#[test]
fn arguments_that_exhaust() {
    let large: &[u8] = b"\x8a\x06\0\0\0\0\0\x01";
    for (module, name) in
        [("builtins", "bytes"), ("numpy", "zeros"), ("numpy", "ndarray"), ("operator", "mul"), ("math", "factorial")]
    {
        suspicious(&Pickle::new().global(module, name).op(large).op(b"\x85R").stop(), "SNS-206");
        clean(&Pickle::new().global(module, name).op(b"K\x03\x85R").stop());
    }
    let shape = Pickle::new().global("numpy", "empty").op(b"J\0\0\x10\0J\0\0\x10\0\x86\x85R");
    suspicious(&shape.stop(), "SNS-206");
    let endless = |consumer: &str, arguments: &[u8]| {
        Pickle::new().global("builtins", consumer).global("itertools", "repeat").op(arguments).op(b"R\x85R").stop()
    };
    suspicious(&endless("list", b"K\x01\x85"), "SNS-206");
    clean(&endless("list", b"K\x01K\x02\x86"));
    suspicious(&[b"L".as_slice(), &vec![b'9'; 100_000], b"L\n."].concat(), "SNS-206");
    suspicious(&called("re", "compile", "(a|a)*$"), "SNS-206");
    clean(&called("re", "compile", "(?:a|b)*$"));
}

#[test]
fn a_payload_behind_the_last_stream() {
    let attack = Pickle::new().attack().stop();
    let text = b"# notes on class c and i\n".repeat(9);
    for junk in [&[0x11; 37][..], &[0; 5000], &text] {
        let tail = [&Pickle::new().op(b"}").stop(), junk, &attack].concat();
        malicious(&tail, "SNS-204");
        let tail = [&Pickle::new().op(b"}").stop(), junk, b"cos\nsystem\n(S'id'\ntR."].concat();
        malicious(&tail, "SNS-204");
    }
}

/// An array of objects in joblib's way: a whole pickle with a memo of its own between the outer one's opcodes.
fn joblib_objects(inner: &[u8]) -> Vec<u8> {
    let wrapper = Pickle::new().global("joblib.numpy_pickle", "NumpyArrayWrapper").op(b"\x94)\x81\x94}\x94(");
    let dtype = wrapper.text("shape").op(b"K\x01\x85").text("dtype").global("numpy", "dtype").text("O8");
    let built = dtype.op(b"\x89\x88\x87R").text("numpy_array_alignment_bytes").op(b"K\x10ub");
    [&built.0, inner, b"."].concat()
}

#[test]
fn arrays_of_objects_have_their_own_memo() {
    // For a reader that does not know of arrays, `h\x01` is the wrapper.
    let inner = Pickle::new().text("x").op(b"\x940").text("numpy").op(b"\x940h\x01").text("dtype").op(b"\x93");
    let inner = inner.text("O8").op(b"\x85R").stop();
    clean(&joblib_objects(&inner));
    malicious(&joblib_objects(&Pickle::new().attack().stop()), "SNS-101");
    let seen = see_as(&joblib_objects(&inner), super::Dialect::Joblib, &Limits::default());
    assert_eq!(seen.verdict, Verdict::Clean, "{:#?}", seen.findings);
}

#[test]
fn copies_of_packages_within_others() {
    for module in ["joblib.externals.cloudpickle.cloudpickle", "numba.cloudpickle.cloudpickle", "ray.cloudpickle"] {
        malicious(&called(module, "subimport", "antigravity"), "SNS-101");
    }
}

#[test]
fn what_frameworks_write_of_functions_caches_and_classes() {
    let by_value = |inner: &[u8]| {
        let own = Pickle::new().global("numba.core.serialize", "_unpickle__CustomPickled");
        own.bytes(inner).op(b"\x85R").stop()
    };
    clean(&by_value(&Pickle::new().op(b"}").stop()));
    malicious(&by_value(&Pickle::new().attack().stop()), "SNS-101");
    // A folder that a pipeline keeps results in: the class alone does nothing.
    let cache = Pickle::new().global("joblib._store_backends", "FileSystemStoreBackend");
    clean(&cache.op(b")\x81}").text("location").text("/var/cache/x").op(b"sb").stop());
    // A class that a maker gives, and its instance.
    clean(&Pickle::new().global("sympy.core.function", "_rebuild_undef").text("f").op(b"\x85R)R").stop());
    clean(&Pickle::new().global("tensorflow.python.framework.ops", "convert_to_tensor").op(b"K\x01\x85R").stop());
    // Cython's class for one type of number.
    clean(&Pickle::new().global("statsmodels.tsa.x", "dKalmanFilter").op(b"K\x01\x85R").stop());
}

#[test]
fn classes_that_act_when_they_are_made() {
    suspicious(&called("pyarrow.parquet.core", "ParquetWriter", "a.parquet"), "SNS-103");
    malicious(&called("torch._C._distributed_c10d", "TCPStore", "evil.example"), "SNS-101");
    malicious(&called("tqdm.contrib.telegram", "TelegramIO", "token"), "SNS-101");
    malicious(&called("torch.ops", "load_library", "x.so"), "SNS-101");
    malicious(&Pickle::new().global("package.__main__", "main").stop(), "SNS-101");
    // Named so, but only made.
    clean(&Pickle::new().global("pyarrow.parquet.core", "ParquetWriter").op(b")\x81}").stop());
    clean(&Pickle::new().global("__main__", "Net").op(b")\x81}b").stop());
}

#[test]
fn states_that_their_class_runs() {
    let model = |formula: &str| {
        let state = Pickle::new().global("statsmodels.base.data", "PandasData").op(b")\x81}(");
        state.text("restore_model_spec").op(b"\x88").text("formula").text(formula).op(b"ub").stop()
    };
    malicious(&model("y ~ I(__import__('os').system('id'))"), "SNS-101");
    malicious(&model("y ~ I(np.f2py.os.popen('id'))"), "SNS-101");
    malicious(&model("y ~ I(getattr(np, chr(102))(1))"), "SNS-101");
    clean(&model("y ~ a + np.log(np.abs(b)) + C(k, Treatment('x')) + I(c**2) + a:b"));
    // What wraps another pickler has its bytes for a state.
    let wrapper =
        |state: &[u8]| Pickle::new().global("mynet.wrap", "Wrapper").op(b")\x81").bytes(state).op(b"b").stop();
    malicious(&wrapper(&Pickle::new().attack().stop()), "SNS-101");
    clean(&wrapper(&Pickle::new().op(b"}").stop()));
    clean(&wrapper(b"{\"version\": \"1.0\", \"model\": {}}"));
}

#[test]
fn how_loaders_of_data_and_batches_of_graphs_are_written() {
    let loader = Pickle::new().global("torch.utils.data.dataloader", "DataLoader").op(b")\x81}").text("collate_fn");
    clean(&loader.global("torch.utils.data._utils.collate", "default_collate").op(b"sb").stop());
    let getter = Pickle::new().global("torch_geometric.data.batch", "DynamicInheritanceGetter").op(b")R");
    let batch = getter.global("torch_geometric.data.batch", "Batch").global("torch_geometric.data.data", "Data");
    clean(&batch.op(b"\x85\x86R}b").stop());
    let called = Pickle::new().global("torch_geometric.data.batch", "DynamicInheritanceGetter").op(b")R");
    suspicious(&called.text("x").op(b"\x85R").stop(), "SNS-102");
}

#[test]
fn torch_s_first_format_keeps_a_class_beside_its_source() {
    let by_source = |module: &str, name: &str| {
        let id = Pickle(b"\x80\x02(".to_vec()).text("module").op(format!("c{module}\n{name}\n").as_bytes());
        id.text("lazy.py").text("class LazyLinear: pass").op(b"tQ")
    };
    let made = by_source("torch.nn.modules.linear", "LazyLinear").op(b")\x81q\x000");
    let bound = made.op(b"c__builtin__\ngetattr\nh\x00").text("_lazy_load_hook").op(b"\x86R0N").stop();
    let seen = see_as(&bound, super::Dialect::TorchLegacy, &Limits::default());
    assert_eq!(seen.verdict, Verdict::Clean, "{:#?}", seen.findings);
    let called = by_source("os", "system").text("id").op(b"\x85R").stop();
    let seen = see_as(&called, super::Dialect::TorchLegacy, &Limits::default());
    assert_eq!(seen.worst("SNS-101"), Some(crate::Severity::Critical), "{:#?}", seen.findings);
}

#[test]
fn what_an_attribute_gives_may_be_a_name() {
    let space = Pickle::new().global("builtins", "getattr").global("argparse", "Namespace").op(b")\x81}");
    let set = space.text("f").text("os").op(b"sb").text("f").op(b"\x86R");
    malicious(&set.text("system").op(b"\x93").text("id").op(b"\x85R").stop(), "SNS-101");
    // An attribute of the class, or of a module, that nobody here knows.
    let unset = Pickle::new().global("builtins", "getattr").global("argparse", "Namespace").op(b")\x81");
    malicious(&unset.text("f").op(b"\x86R").text("system").op(b"\x93").text("id").op(b"\x85R").stop(), "SNS-102");
    malicious(&Pickle::new().global("mynet", "name").text("system").op(b"\x93").stop(), "SNS-102");
    suspicious(&Pickle::new().global("collections", "OrderedDict").text("system").op(b"\x93").stop(), "SNS-202");
    let written = Pickle::new().global("builtins", "getattr").global("numpy", "ndarray").op(b"K\x01\x85R");
    malicious(&written.text("tofile").op(b"\x86R").text("x").op(b"\x85R").stop(), "SNS-101");
}

#[test]
fn dill_fills_a_cell_by_a_function_that_it_looks_up() {
    let setter = Pickle::new().global("builtins", "getattr").global("dill", "_dill").text("_setattr");
    let setter = setter.global("builtins", "setattr").op(b"\x87R");
    let cell = |setter: Pickle| setter.global("dill._dill", "_create_cell").op(b"N\x85R").text("cell_contents");
    clean(&cell(setter.clone()).op(b"K\x03\x87R").stop());
    malicious(&cell(setter).global("os", "system").op(b"\x87R").stop(), "SNS-101");
}

#[test]
fn callables_among_keyword_arguments_are_called_as_well() {
    let partial = ("functools", "partial");
    for (module, name, key) in
        [("builtins", "max", "key"), ("builtins", "print", "file"), ("json", "loads", "object_hook")]
    {
        let kept = Pickle::new()
            .global(partial.0, partial.1)
            .global(module, name)
            .op(b"\x85}")
            .text(key)
            .global("os", "system")
            .op(b"s\x92");
        let seen = see(&kept.text("id").op(b"\x85R").stop());
        assert_eq!(seen.verdict, Verdict::Malicious, "{module}.{name}: {:#?}", seen.findings);
    }
    // `partial(os.system, **{})`, and nothing but keywords.
    let bare = Pickle::new().global(partial.0, partial.1).global("os", "system").op(b"\x85}\x92");
    malicious(&bare.text("id").op(b"\x85R").stop(), "SNS-101");
    let base = Pickle::new().global(partial.0, partial.1).global("builtins", "int").op(b"\x85}");
    clean(&base.text("base").op(b"K\x02s\x92").stop());
}

#[test]
fn constructors_that_read_a_file_or_a_cache() {
    for (module, name) in [
        ("lightgbm.basic", "Booster"),
        ("xgboost.core", "Booster"),
        ("xgboost.core", "DMatrix"),
        ("catboost.core", "Pool"),
    ] {
        let by_path = Pickle::new().global(module, name).op(b"NN").text("/srv/model.txt").op(b"\x87R").stop();
        suspicious(&by_path, "SNS-101");
        clean(&Pickle::new().global(module, name).op(b")\x81}").text("handle").text("tree").op(b"sb").stop());
    }
    let memorized = Pickle::new().global("joblib.memory", "MemorizedFunc").global("json", "loads").text("/srv/cache");
    suspicious(&memorized.op(b"\x86R").stop(), "SNS-101");
    malicious(&called("pandas", "read_hdf", "a.h5"), "SNS-110");
    malicious(&called("uu", "decode", "a"), "SNS-101");
    malicious(&Pickle::new().global("numpy.lib.format", "read_array").text("a").op(b"\x88\x86R").stop(), "SNS-110");
}
