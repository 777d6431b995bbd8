use std::path::Path;

use super::{ApiListen, Config, LogFormat, template};

fn fault(text: &str) -> String {
    Config::parse(Path::new("vipd.toml"), text)
        .unwrap_err()
        .to_string()
}

#[test]
fn an_empty_file_is_a_whole_configuration() {
    let checked = Config::parse(Path::new("vipd.toml"), "").unwrap();
    assert_eq!(checked.timing.lease.as_millis(), 150);
    assert_eq!(checked.api, [ApiListen::Unix("/run/vipd/api.sock".into())]);
    assert_eq!(checked.log_format, LogFormat::Text);
    assert!(checked.announces_on("eth0"));
}

#[test]
fn what_init_writes_is_read_back_as_it_was_meant() {
    let name = "n1".parse().unwrap();
    let listen = "192.0.2.1:7400".parse().unwrap();
    let text = template(
        &name,
        Path::new("/d \"x\""),
        listen,
        &["unix:/s".into()],
        Some(Path::new("/p")),
    );
    let checked = Config::parse(Path::new("vipd.toml"), &text).unwrap();
    assert_eq!(
        (checked.name.as_str(), checked.listen),
        ("n1", Some(listen))
    );
    assert_eq!(
        (checked.data_dir.as_path(), checked.pin_dir.as_path()),
        (Path::new("/d \"x\""), Path::new("/p"))
    );
}

#[test]
fn every_fault_is_one_line_with_file_line_and_what_would_be_right() {
    for (text, line, says) in [
        ("[node]\nnmae = \"x\"\n", 2, "nmae"),
        ("[node]\nname = \"N 1\"\n", 2, "a-z"),
        ("[lease]\n\nprofile = \"quick\"\n", 3, "fast, lan, safe"),
        (
            "[lease]\nbeat_ms = 100\nlease_ms = 150\n",
            2,
            "beat of 100 ms and lease of 150 ms",
        ),
        ("[lease]\nlease_ms = 150\n", 2, "needs beat_ms"),
        ("[cluster]\nlisten = \"here\"\n", 2, "IP:PORT"),
        ("[api]\nlisten = [\"unix:api.sock\"]\n", 2, "absolute path"),
        (
            "[announce]\ninterfaces = [\"eth[\"]\n",
            2,
            "announce.interfaces",
        ),
        ("[log]\nformat = \"xml\"\n", 2, "text, json, journald"),
        ("[log]\nlevel = \"verbose\"\n", 2, "error, warn, info"),
        ("[node\n", 1, ""),
        ("[node]\ndata_dir = 5\n", 2, "string"),
    ] {
        let said = fault(text);
        assert!(
            said.starts_with(&format!("vipd.toml:{line}: ")) && said.contains(says),
            "{text:?}: {said}"
        );
        assert!(!said.contains('\n'), "{said}");
    }
}

#[test]
fn interfaces_are_regular_expressions() {
    let text = "[announce]\ninterfaces = [\"^eth[1-9]+$\", \"^br\"]\n";
    let checked = Config::parse(Path::new("vipd.toml"), text).unwrap();
    assert!(
        checked.announces_on("eth1")
            && checked.announces_on("br0")
            && !checked.announces_on("eth0")
    );
}
