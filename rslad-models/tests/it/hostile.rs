//! Files made to hurt the reader: each is a typed error in under a second and under 64 MB of memory beyond its
//! own bytes, and none is a panic or an abort. Every file is read in a process of its own, which measures itself.

use rslad_models::Network;
use rslad_models::checkpoint::seal::{self, Seal};
use rslad_models::checkpoint::{self, Contents, torch};
use std::fmt::Write as _;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::Command;

/// Names the file in the child process.
const FILE: &str = "RSLAD_HOSTILE_FILE";
const SECOND: u64 = 1_000_000_000;

#[test]
fn every_hostile_file_is_a_typed_error_that_costs_little() {
    if let Some(file) = std::env::var_os(FILE) {
        return read(Path::new(&file)); // this is the child
    }
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = String::new();
    for (name, bytes, expected) in files() {
        let path = dir.path().join("hostile");
        std::fs::write(&path, bytes).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([
            "hostile::every_hostile_file_is_a_typed_error_that_costs_little",
            "--exact",
            "--nocapture",
        ]);
        let did = child.env(FILE, &path).output().unwrap();
        let said = String::from_utf8_lossy(&did.stdout);
        let told = said.lines().find_map(|line| line.strip_prefix("fault "));
        let Some((fault, costs)) = told.and_then(|told| told.split_once(" | costs ")) else {
            let _ =
                writeln!(wrong, "{name}: {:?}, {}", did.status.code(), String::from_utf8_lossy(&did.stderr));
            continue;
        };
        if !fault.starts_with(expected) {
            let _ = writeln!(wrong, "{name}: expected {expected}, got {fault}");
        }
        let (time, memory) = costs.split_once(' ').unwrap();
        if time.parse::<u64>().unwrap() > SECOND || memory.parse::<u64>().unwrap() > 64_000 {
            let _ = writeln!(wrong, "{name}: took {time} ns and {memory} kB");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What the fuzzers found worth keeping, read as their targets read it: a panic here is one they would find.
#[test]
fn the_corpus_of_the_fuzzers_is_read() {
    for target in ["checkpoint", "torch_zip", "torch_legacy", "torch_tar"] {
        let mut read = 0;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let whole = bytes.starts_with(b"PK") || bytes.get(257..262) == Some(b"ustar");
            let state = match target {
                "checkpoint" => {
                    let broken = seal::check(&bytes) == Seal::Broken;
                    let mended = if broken { seal::close(bytes.clone()) } else { bytes.clone() };
                    let _ = Network::from_bytes(&bytes, &path);
                    Network::from_bytes(&mended, &path).map(|_| ()).map_err(|_| ())
                }
                "torch_zip" if !whole => {
                    torch::read(&zip(&bytes, STORAGES_OF_THE_FUZZER)).map(|_| ()).map_err(|_| ())
                }
                "torch_tar" if !whole => {
                    cut(&bytes).ok_or(()).and_then(|bytes| torch::read(&bytes).map(|_| ()).map_err(|_| ()))
                }
                _ => torch::read(&bytes).map(|_| ()).map_err(|_| ()),
            };
            read += usize::from(state.is_ok());
        }
        assert!(read > 0, "{target}: the corpus never reaches the end of the reader");
    }
}

const STORAGES_OF_THE_FUZZER: &[(&str, usize)] = &[("0", 216), ("1", 8), ("2", 8), ("3", 32), ("4", 288)];

/// Two lengths, then the members of a tar, as the fuzzer's target cuts them.
fn cut(bytes: &[u8]) -> Option<Vec<u8>> {
    let (lengths, rest) = bytes.split_first_chunk::<4>()?;
    let length = |low: usize| usize::from(u16::from_le_bytes([lengths[low], lengths[low + 1]]));
    let (storages, rest) = rest.split_at_checked(length(0))?;
    let (tensors, pickle) = rest.split_at_checked(length(2))?;
    Some(tar_of(storages, tensors, pickle))
}

/// Reads a file and prints its fault, the processor's time in ns and the growth of memory in kB.
fn read(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let (before, began) = (peak(), cpu_time());
    let opened = checkpoint::open(&bytes, path); // what the command does
    if let Ok(Contents::Checkpoint(own)) = opened {
        assert!(Network::of_checkpoint(&own, path).is_err(), "it opens"); // names alone may be another's
    }
    let fault = match checkpoint::recognize(&bytes) {
        Ok(checkpoint::Format::Safetensors) => {
            Network::from_bytes(&bytes, path).map(drop).map_err(|e| format!("{e:?}"))
        }
        _ => torch::read(&bytes).map(drop).map_err(|fault| format!("{fault:?}")),
    };
    let fault = fault.err().unwrap_or_else(|| "none".into()).replace('\n', " ");
    println!("\nfault {fault} | costs {} {}", cpu_time() - began, peak() - before);
}

/// The largest resident memory so far in kB; 0 where the system does not tell.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}

/// The processor's time of this thread in ns: other programs do not count.
fn cpu_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

type File = (&'static str, Vec<u8>, &'static str);

/// Name, bytes, and how the fault begins.
fn files() -> Vec<File> {
    let zips = pickles().into_iter().map(|(name, pickle, fault)| (name, zip(&pickle, &[]), fault));
    let mut files: Vec<File> = zips.collect();
    files.extend(tensors().into_iter().map(|(name, args, fault)| (name, one_tensor(&args), fault)));
    files.extend(archives());
    files.extend(others());
    files.extend(safetensors());
    files
}

/// Programs for the pickle machine.
fn pickles() -> Vec<File> {
    let laughs = |n: usize| [b"\x80\x02]".to_vec(), b"q\x002h\x00\x86".repeat(n)].concat();
    let long_list = [b"\x80\x02](".to_vec(), b"NN\x86".repeat(100_000), b"eq\x00".to_vec()].concat();
    let many_dicts = b"ccollections\nOrderedDict\nh\x00\x85R0".repeat(25_000);
    vec![
        ("code", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.".to_vec(), "Refused(\"os.system\")"),
        (
            "code by another road",
            b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.".to_vec(),
            "Refused(\"builtins.eval\")",
        ),
        ("code as an instance", b"\x80\x02(ios\nsystem\n.".to_vec(), "Unsupported"),
        ("an extension", b"\x80\x02\x82\x01.".to_vec(), "Unsupported"),
        (
            "a million nested tuples",
            [b"\x80\x02)".to_vec(), vec![0x85; 999_000], b".".to_vec()].concat(),
            "Limit",
        ),
        ("a million marks", [b"\x80\x02".to_vec(), vec![b'('; 999_000], b".".to_vec()].concat(), "Limit"),
        ("doubling", [laughs(22), b".".to_vec()].concat(), "NoStateDict"),
        ("doubling without end", [laughs(500_000), b".".to_vec()].concat(), "Limit"),
        (
            "a million values",
            [b"\x80\x02".to_vec(), b"N0".repeat(2_000_000), b"N.".to_vec()].concat(),
            "Limit",
        ),
        (
            "a million on the stack",
            [b"\x80\x02".to_vec(), b"N".repeat(2_000_000), b".".to_vec()].concat(),
            "Limit",
        ),
        ("one list copied often", [long_list, many_dicts, b".".to_vec()].concat(), "Limit"),
        ("a list in itself", b"\x80\x02]q\x00h\x00a.".to_vec(), "NoStateDict"),
        (
            "a list in itself, again and again",
            [b"\x80\x02]q\x00".to_vec(), b"h\x00a".repeat(99), b".".to_vec()].concat(),
            "Limit",
        ),
        ("a state dict in itself", b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s.".to_vec(), "Limit"),
        ("a string of 4 GB", b"\x80\x02X\xff\xff\xff\xffabc.".to_vec(), "Limit"),
        ("a string of 2^63 bytes", b"\x80\x04\x8d\x00\x00\x00\x00\x00\x00\x00\x80abc.".to_vec(), "Limit"),
        ("an integer of 4 GB", b"\x80\x02\x8b\xff\xff\xff\xff.".to_vec(), "Truncated"),
        ("memo place 2^32", b"\x80\x02Nr\xff\xff\xff\xff.".to_vec(), "Limit"),
        ("an empty memo place", b"\x80\x02h\x07.".to_vec(), "Damaged"),
        ("an empty stack", b"\x80\x02.".to_vec(), "Damaged"),
        ("no end", b"\x80\x02".to_vec(), "Truncated"),
        ("protocol 9", b"\x80\x09N.".to_vec(), "Unsupported"),
        ("an empty dict", b"\x80\x02}.".to_vec(), "NoStateDict"),
        ("numbers for tensors", b"\x80\x02}X\x01\x00\x00\x00aK\x01s.".to_vec(), "NoStateDict"),
        ("a set of a number", b"\x80\x02K\x01K\x02K\x03s.".to_vec(), "Damaged"),
        ("a call of a number", b"\x80\x02K\x01)R.".to_vec(), "Damaged"),
        ("dicts of something else", b"\x80\x02ccollections\nOrderedDict\n]K\x01a\x85R.".to_vec(), "Damaged"),
    ]
}

/// What `_rebuild_tensor_v2` is called with, after a storage of 16 bytes.
fn tensors() -> Vec<File> {
    let args = |text: &[u8]| [storage("0", 4), text.to_vec(), b"t".to_vec()].concat();
    vec![
        ("a tensor of nothing", b"t".to_vec(), "Damaged"),
        ("a tensor of a storage alone", args(b""), "Damaged"),
        ("a shape of 512 GB", args(b"K\x00J\xff\xff\xff\x7fK@\x86K@K\x01\x86"), "Damaged"),
        ("a shape of 512 GB without strides", args(b"K\x00J\xff\xff\xff\x7fK@\x86K\x00K\x00\x86"), "Limit"),
        ("a shape without end", args(b"K\x00(J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7ft(K\x00K\x00K\x00t"), "Limit"),
        ("a stride without end", args(b"K\x00K\x02\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"), "Damaged"),
        ("an offset beyond the end", args(b"K\x04K\x01\x85K\x01\x85"), "Damaged"),
        ("a negative offset", args(b"J\xff\xff\xff\xffK\x01\x85K\x01\x85"), "Damaged"),
        ("more sides than strides", args(b"K\x00K\x01K\x01\x86K\x01\x85"), "Damaged"),
        ("nine sides", args(b"K\x00(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t"), "Damaged"),
        ("a storage of another size", [storage("0", 5), b"K\x00K\x01\x85K\x01\x85t".to_vec()].concat(), "Damaged"),
        ("a storage out of the archive", [storage("../../etc/passwd", 4), b"K\x00K\x01\x85K\x01\x85t".to_vec()].concat(), "Damaged"),
    ]
}

/// `(("storage", FloatStorage, key, "cpu", count)Q`, the mark of the arguments before it.
fn storage(key: &str, count: u8) -> Vec<u8> {
    let tag =
        [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(key), text("cpu"), vec![b'K', count]];
    [b"(".to_vec(), tag.concat(), b"tQ".to_vec()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [b"X".to_vec(), (text.len() as u32).to_le_bytes().to_vec(), text.as_bytes().to_vec()].concat()
}

/// A state dict whose only entry is rebuilt from `args`, which follow the mark.
fn one_tensor(args: &[u8]) -> Vec<u8> {
    let call = [b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(), args.to_vec(), b"R".to_vec()].concat();
    zip(&[b"\x80\x02}".to_vec(), text("a"), call, b"s.".to_vec()].concat(), &[("0", 16)])
}

fn good_call() -> Vec<u8> {
    [b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(), storage("0", 4), b"K\x00K\x04\x85K\x01\x85tR".to_vec()]
        .concat()
}

/// A zip archive as `torch.save` lays it out.
fn zip(pickle: &[u8], storages: &[(&str, usize)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("archive/data.pkl", stored).unwrap();
    writer.write_all(pickle).unwrap();
    for (key, length) in storages {
        writer.start_file(format!("archive/data/{key}"), stored).unwrap();
        writer.write_all(&vec![1; *length]).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn archives() -> Vec<File> {
    let twice = [text("a"), good_call(), b"s".to_vec()].concat();
    let prefixed = [text("module.a"), good_call(), b"s".to_vec()].concat();
    let dict = |entries: &[&[u8]]| [b"\x80\x02}".to_vec(), entries.concat(), b".".to_vec()].concat();
    let good = zip(&dict(&[&twice]), &[("0", 16)]);
    assert!(torch::read(&good).is_ok(), "what the others vary is sound");

    let deflated = {
        let mut bytes = good.clone();
        let method = |bytes: &mut Vec<u8>, magic: &[u8], at: usize| {
            let places: Vec<usize> =
                (0..bytes.len() - 4).filter(|&i| bytes[i..].starts_with(magic)).collect();
            places.into_iter().for_each(|place| bytes[place + at] = 8);
        };
        method(&mut bytes, b"PK\x03\x04", 8);
        method(&mut bytes, b"PK\x01\x02", 10);
        bytes
    };
    let many: Vec<(String, usize)> = (0..21_000).map(|i| (i.to_string(), 1)).collect();
    let many: Vec<(&str, usize)> = many.iter().map(|(key, n)| (key.as_str(), *n)).collect();
    // A thousand tensors that each read one storage of 64 kB: more than twice the file.
    let large = [
        b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
        storage_of_64_kb(),
        b"K\x00M\x00\x40\x85K\x01\x85tR".to_vec(),
    ]
    .concat();
    let shared: Vec<u8> =
        (0..1000).flat_map(|i| [text(&i.to_string()), large.clone(), b"s".to_vec()].concat()).collect();
    vec![
        ("two entries of one name", zip(&dict(&[&twice, &twice]), &[("0", 16)]), "Entries"),
        ("one name with and without prefix", zip(&dict(&[&twice, &prefixed]), &[("0", 16)]), "Entries"),
        ("a storage that is not there", zip(&dict(&[&twice]), &[]), "Damaged"),
        ("a storage shared without end", zip(&dict(&[&shared]), &[("0", 65_536)]), "Limit"),
        ("compressed entries", deflated, "Unsupported"),
        ("21,000 entries", zip(&dict(&[&twice]), &many), "Limit"),
        ("a zip that ends early", good[..good.len() - 30].to_vec(), "Truncated"),
        ("a zip of nothing", b"PK\x05\x06".iter().copied().chain([0; 18]).collect(), "NotWeights"),
        ("a zip of an end alone", b"PK\x05\x06".to_vec(), "Damaged"),
        ("a flipped bit in a storage", flipped(&good, &[1; 16]), "Damaged"),
        (
            "bytes after the pickle",
            zip(&[dict(&[&twice]), b"more".to_vec()].concat(), &[("0", 16)]),
            "Damaged",
        ),
        ("a number for a key", zip(&dict(&[b"K\x01", &good_call(), b"s"]), &[("0", 16)]), "Entries"),
    ]
}

fn storage_of_64_kb() -> Vec<u8> {
    let tag =
        [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("0"), text("cpu"), b"M\x00\x40".to_vec()];
    [b"(".to_vec(), tag.concat(), b"tQ".to_vec()].concat()
}

/// A bit of where `part` lies is turned.
fn flipped(bytes: &[u8], part: &[u8]) -> Vec<u8> {
    let place = (0..bytes.len()).find(|&i| bytes[i..].starts_with(part)).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[place] ^= 4;
    bytes
}

/// Legacy and tar files, and what is none at all.
fn others() -> Vec<File> {
    const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let legacy = |object: &[u8], keys: &[u8], data: &[u8]| {
        [MAGIC, b"\x80\x02M\xe9\x03.", b"\x80\x02}.", object, keys, data].concat()
    };
    let reference = [
        b"(".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        b"K\x04NtQ".to_vec(),
    ];
    let call = [
        b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
        reference.concat(),
        b"K\x00K\x04\x85K\x01\x85tR".to_vec(),
    ];
    let object = [b"\x80\x02}".to_vec(), text("a"), call.concat(), b"s.".to_vec()].concat();
    let one_key = [b"\x80\x02]".to_vec(), text("0"), b"a.".to_vec()].concat();
    let keys_twice = [b"\x80\x02](".to_vec(), text("0"), text("0"), b"e.".to_vec()].concat();
    let many_keys = [b"\x80\x02](".to_vec(), text("0").repeat(20_000), b"e.".to_vec()].concat();
    let data = [4u64.to_le_bytes().to_vec(), vec![1; 16]].concat();
    assert!(torch::read(&legacy(&object, &one_key, &data)).is_ok(), "what the others vary is sound");
    vec![
        ("a storage of 2^62", legacy(&object, &one_key, &(1u64 << 62).to_le_bytes()), "Damaged"),
        ("a storage of 2^40", legacy(&object, &one_key, &(1u64 << 40).to_le_bytes()), "Truncated"),
        (
            "a storage of another count",
            legacy(&object, &one_key, &[5u64.to_le_bytes().to_vec(), vec![1; 20]].concat()),
            "Damaged",
        ),
        ("a key twice", legacy(&object, &keys_twice, &data.repeat(2)), "Damaged"),
        ("20,000 keys", legacy(&object, &many_keys, &data), "Limit"),
        ("no storage", legacy(&object, b"\x80\x02].", &[]), "Damaged"),
        (
            "bytes after the last storage",
            legacy(&object, &one_key, &[data.clone(), vec![0; 9]].concat()),
            "Damaged",
        ),
        ("code in a legacy file", legacy(b"\x80\x02cposix\nsystem\n.", &one_key, &data), "Refused"),
        ("the magic number alone", MAGIC.to_vec(), "Truncated"),
        ("a link in a tar", tar(&[("storages", tar::EntryType::Symlink, b"")]), "Damaged"),
        ("a device in a tar", tar(&[("storages", tar::EntryType::Char, b"")]), "Damaged"),
        ("a tar of something else", tar(&[("a", tar::EntryType::Regular, b"b")]), "NotWeights"),
        ("a thousand members", tar(&vec![("storages", tar::EntryType::Regular, &b""[..]); 1000]), "Damaged"),
        (
            "2^31 storages in a tar",
            tar_of(b"\x80\x02J\xff\xff\xff\x7f.", b"\x80\x02K\x00.", b"\x80\x02}."),
            "Limit",
        ),
        (
            "a tensor of 2^31 dimensions",
            tar_of(
                STORAGES,
                b"\x80\x02K\x01.\x80\x02K\x01K\x02N\x87.\xff\xff\xff\x7f\x00\x00\x00\x00",
                b"\x80\x02}.",
            ),
            "Damaged",
        ),
        (
            "a tensor that is not there",
            tar_of(STORAGES, b"\x80\x02K\x00.", b"\x80\x02}X\x01\x00\x00\x00aK\x09Qs."),
            "Damaged",
        ),
        (
            "a web page",
            b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning".to_vec(),
            "NotWeights",
        ),
        ("nothing", vec![], "NotWeights"),
        ("zeros", vec![0; 1000], "NotWeights"),
    ]
}

/// One storage of four numbers, and no views.
const STORAGES: &[u8] = b"\x80\x02K\x01.\x80\x02K\x02X\x03\x00\x00\x00cpuctorch\nFloatStorage\n\x87.\x04\x00\x00\x00\x00\x00\x00\x00\
    \x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x80\x02].";

fn tar_of(storages: &[u8], tensors: &[u8], pickle: &[u8]) -> Vec<u8> {
    let regular = tar::EntryType::Regular;
    tar(&[("storages", regular, storages), ("tensors", regular, tensors), ("pickle", regular, pickle)])
}

fn tar(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, data) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_entry_type(*kind);
        header.set_path(name).unwrap();
        header.set_cksum();
        builder.append(&header, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Safetensors files, ours by their metadata.
fn safetensors() -> Vec<File> {
    let file = |header: &str, data: &[u8]| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    let ours = |arch: &str| {
        let metadata =
            serde_json::json!({"format": 1, "model": toml::Table::from_iter([]), "provenance": {}});
        let metadata = metadata.to_string().replace("\"model\":{}", &format!("\"model\":{arch}"));
        serde_json::json!({"rslad": metadata}).to_string()
    };
    let with = |tensors: &str| format!("{{\"__metadata__\":{},{tensors}}}", ours("{\"arch\":\"tiny_cnn\"}"));
    let tensor = |name: &str, shape: &str, offsets: &str| {
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
    };
    let many = |n: usize| {
        let one = |i: usize| tensor(&i.to_string(), "[1]", &format!("[{},{}]", 4 * i, 4 * i + 4));
        (0..n).map(one).collect::<Vec<_>>().join(",")
    };
    let notes: Vec<String> = (0..400_000).map(|i| format!("\"{i}\":\"\"")).collect();
    let notes = format!("{{\"__metadata__\":{{{}}}}}", notes.join(","));
    let sides = format!("{{{}}}", tensor("a", &format!("[{}1]", "1,".repeat(1_900_000)), "[0,4]"));
    let huge = "{\"arch\":\"resnet50\",\"classes\":100000,\"in_channels\":1024,\"norm\":\"none\",\"width\":4096,\
                \"blocks\":\"100,100,100,100,100,100,100,100\"}";
    let two = format!("{},{}", tensor("a", "[1]", "[0,4]"), tensor("b", "[1]", "[2,6]"));
    vec![
        ("a header of 2^62", [&(1u64 << 62).to_le_bytes()[..], b"{}"].concat(), "Checkpoint"),
        ("a header of 101 MB", [&101_000_000u64.to_le_bytes()[..], b"{}"].concat(), "Checkpoint"),
        ("tensors that overlap", file(&with(&two), &[0; 6]), "Checkpoint"),
        (
            "a shape that its bytes do not hold",
            file(&with(&tensor("a", "[9]", "[0,4]")), &[0; 4]),
            "Checkpoint",
        ),
        (
            "a shape that overflows",
            file(&with(&tensor("a", "[9223372036854775807,9]", "[0,4]")), &[0; 4]),
            "Checkpoint",
        ),
        ("bytes after the tensors", file(&with(&tensor("a", "[1]", "[0,4]")), &[0; 9]), "Checkpoint"),
        ("tensors that end early", file(&with(&tensor("a", "[1]", "[0,4]")), &[0; 3]), "Checkpoint"),
        ("11,000 tensors", file(&with(&many(11_000)), &vec![0; 44_000]), "Checkpoint"),
        ("300,000 tensors", file(&with(&many(300_000)), &vec![0; 1_200_000]), "Checkpoint"),
        (
            "300,000 tensors of another program",
            file(&format!("{{{}}}", many(300_000)), &vec![0; 1_200_000]),
            "Checkpoint",
        ),
        ("400,000 notes", file(&notes, &[]), "Checkpoint"),
        ("a tensor of 1,900,000 sides", file(&sides, &[0; 4]), "Checkpoint"),
        ("a network of 100 GB", file(&format!("{{\"__metadata__\":{}}}", ours(huge)), &[]), "Checkpoint"),
        ("no metadata", file("{}", &[]), "Checkpoint"),
    ]
}
