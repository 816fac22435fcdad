//! `rslad data`, and data from files where a recipe or a model asks for them. No test reaches a network: all
//! addresses but the loopback go to a proxy that refuses them.

use super::support::{Did, MICRO, Place};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A server that answers every request with this, and keeps the first line of each.
fn server(answer: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(vec![]));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            kept.lock().unwrap().push(lines.next().unwrap_or_default());
            let _ = lines.find(|line| line.is_empty());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, asked)
}

const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const PAGE: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";

/// A command whose only way out is this proxy.
fn behind(proxy: &str, place: &Place, args: &[&str]) -> Did {
    let mut command: Command = place.command(args);
    for variable in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy"] {
        command.env(variable, proxy);
    }
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    command.output().unwrap().into()
}

#[test]
fn a_fetch_that_fails_says_what_each_mirror_answered() {
    let (place, (proxy, through), (mirror, asked)) = (Place::new(), server(REFUSED), server(PAGE));
    let did = behind(&proxy, &place, &["data", "fetch", "cifar10", "--mirror", &mirror]);
    assert_eq!((did.code, did.out.as_str()), (3, ""), "{did:#?}");
    for part in [
        "could not be fetched:",
        "cifar-10-binary.tar.gz: answers with a web page, expected the file",
        "https://cave.cs.toronto.edu/kriz/cifar-10-binary.tar.gz: ",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz: ",
        "https://huggingface.co/datasets/uoft-cs/cifar10/",
        "by hand: put cifar-10-binary.tar.gz (sha256 c4a38c50a1bc5f3a",
    ] {
        assert!(did.err.contains(part), "{part} is not in\n{}", did.err);
    }
    assert_eq!(asked.lock().unwrap()[0], "GET /cifar-10-binary.tar.gz HTTP/1.1");
    let through = through.lock().unwrap();
    assert_eq!(through[0], "CONNECT cave.cs.toronto.edu:443 HTTP/1.1", "the proxy is honored");
    assert_eq!(place.tree(), ["cache/", "cache/cifar10/"], "no file is left");
}

#[test]
fn offline_nothing_is_asked_and_unknown_names_are_refused() {
    let place = Place::new();
    let mut command = place.command(&["data", "fetch", "fashion-mnist", "--dir", "here"]);
    let did: Did = command.env("RSLAD_OFFLINE", "1").output().unwrap().into();
    assert_eq!(did.code, 3);
    assert!(did.err.contains("not asked: RSLAD_OFFLINE is set"), "{}", did.err);
    let did = place.rslad(&["data", "fetch", "mnist"]);
    assert!(did.code == 2 && did.err.contains("fashion-mnist"), "{did:#?}");
    let did = place.rslad(&["data", "verify", "cifar10"]);
    assert!(did.code == 3 && did.err.contains("cannot be read"), "{did:#?}");
}

/// Writes a small CIFAR-10 in the binary form.
fn cifar(place: &Place, n: usize) {
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    {
        let record = |i: usize| {
            let label = (i % 10) as u8;
            [vec![label], (0..3072).map(|at| (at / 12 + i * 7) as u8).collect()].concat()
        };
        std::fs::write(place.at(&format!("{name}.bin")), (0..n).flat_map(record).collect::<Vec<u8>>())
            .unwrap();
    }
}

#[test]
fn cifar_is_verified_shown_trained_on_and_attacked() {
    let place = Place::new();
    cifar(&place, 20);
    let did = place.rslad(&["data", "verify", "cifar10", "--dir", "."]).ok();
    assert!(did.err.contains("note: cifar10 train: 100 images, published are 50000"), "{}", did.err);
    assert!(did.out.contains("cifar10:.: whole, but not in all as published: see the notes"), "{}", did.out);

    let did = place.rslad(&["data", "info", "cifar10:.", "--sheet", "sheet.png"]).ok();
    for part in ["3x32x32, 10 classes", "airplane", "mean", "sheet.png"] {
        assert!(did.out.contains(part), "{}", did.out);
    }
    assert_eq!(image::image_dimensions(place.at("sheet.png")).unwrap().1, 4 + 10 * 68);
    let did = place.rslad(&["data", "info", "cifar10:.", "--dir", "x"]);
    assert!(did.code == 2 && did.err.contains("expected no --dir"), "{did:#?}");

    let rgb =
        ["--set", "student.in_channels=3", "--set", "student.norm=cifar10", "--set", "data.augment.crop=4"];
    let more =
        ["--set", "data.limit=0", "--set", "schedule.epochs=2", "--set", "data.augment.flip=horizontal"];
    let natural = ["train", "--recipe", "digits/resnet18-natural", "--data", "cifar10:.", "--out", "model"];
    place.rslad(&[&natural[..], &MICRO, &rgb, &more].concat()).ok();
    let eval = [
        "eval",
        "--model",
        "model/last.safetensors",
        "--data",
        "cifar10:.",
        "--attack",
        "fgsm",
        "--out",
        "e",
    ];
    let did = place.rslad(&eval).ok();
    assert!(did.out.contains("n = 20"), "{}", did.out);
}

#[test]
fn extra_images_are_for_methods_that_read_no_label() {
    let place = Place::new();
    let extra = ["--set", "data.extra=[{ set = \"digits\", limit = 40 }]", "--set", "schedule.epochs=1"];
    let did = place.train("rslad", &extra).ok();
    assert!(did.err.contains("168 images to train on, 32 to select on"), "{}", did.err);
    let recipe = std::fs::read_to_string(place.at("rslad/recipe.toml")).unwrap();
    assert!(recipe.contains("[[data.extra]]"), "{recipe}");

    let sat = ["train", "--recipe", "digits/resnet18-sat", "--out", "sat"];
    let did = place.rslad(&[&sat[..], &MICRO, &extra].concat());
    assert_eq!(did.code, 2, "{did:#?}");
    assert!(
        did.err.contains("method sat reads labels, but 40 images of `data.extra` have none"),
        "{}",
        did.err
    );
    let other = ["--set", "data.extra=[{ set = \"fashion-mnist\", limit = 0 }]"];
    let did = place.train("o", &other);
    assert!(
        did.code == 3 && did.err.contains("`data.extra`") && did.err.contains("expected bytes"),
        "{did:#?}"
    );
}
