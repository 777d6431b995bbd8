use std::path::Path;

use vipd_core::proof::Rule;

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
    assert_eq!(checked.in_use, Rule::Refuse);
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
        ("[announce]\nin_use = \"ignore\"\n", 2, "refuse, warn"),
        ("[log]\nformat = \"xml\"\n", 2, "text, json, journald"),
        ("[log]\nlevel = \"verbose\"\n", 2, "error, warn, info"),
        ("[balance]\nflows = 1000\n", 2, "between 1024 and 16777216"),
        ("[balance]\ntcp_open_s = 1\n", 2, "between 60 and 604800"),
        ("[balance]\nnew_flows = 1\n", 2, "between 100 and 10000000"),
        ("[balance]\nudp_s = 1\n", 2, "udp_s"),
        (
            "[balance]\nloopback_ports = [70000]\n",
            2,
            "70000 is no port: 1 to 65535",
        ),
        ("[balance]\nloopback_ports = [0]\n", 2, "0 is no port"),
        ("[balance]\nxdp = \"on\"\n", 2, "off, auto, force"),
        ("[datapath]\nattach = \"dpdk\"\n", 2, "auto, tc, xdp"),
        (
            "[health]\nexec_dir = \"checks\"\n",
            2,
            "such as /etc/vipd/checks",
        ),
        ("[health]\nexec_dir = \"/no/checks\"\n", 2, "mkdir -m 755"),
        ("[health]\nexec_dir = \"/tmp\"\n", 2, "chmod go-w"),
        ("[health]\nexec_dir = \"/dev/null\"\n", 2, "no folder"),
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
fn bounds_of_balancing_are_those_of_the_datapath_but_for_what_is_named() {
    let bounds = |text| Config::parse(Path::new("vipd.toml"), text).unwrap().bounds;
    let usual = vipd_datapath::Bounds::default();
    assert_eq!(bounds(""), usual);
    let named = bounds("[balance]\nflows = 65536\nnew_flows = 5000\ntcp_open_s = 600\n");
    assert_eq!((named.flows, named.new_flows), (65_536, Some(5_000)));
    assert_eq!(named.times.open.as_secs(), 600);
    assert_eq!(named.times.stream, usual.times.stream);
}

#[test]
fn nobody_is_let_in_to_loopback_addresses_but_at_ports_that_are_named() {
    let ports = |text| {
        Config::parse(Path::new("vipd.toml"), text)
            .unwrap()
            .loopback_ports
    };
    assert_eq!(ports(""), [].into());
    let named = ports("[balance]\nloopback_ports = [8080, 80]\n");
    assert_eq!(named, [80, 8080].into());
}

#[test]
fn nothing_is_put_into_drivers_unless_it_is_asked_for() {
    let xdp = |text| Config::parse(Path::new("vipd.toml"), text).unwrap().xdp;
    assert_eq!(xdp(""), vipd_datapath::Xdp::Off);
    assert_eq!(xdp("[balance]\nxdp = \"auto\"\n"), vipd_datapath::Xdp::Auto);
    assert_eq!(
        xdp("[balance]\nxdp = \"force\"\n"),
        vipd_datapath::Xdp::Force
    );
}

#[test]
fn attach_xdp_is_auto_with_xdp_unless_balance_says_otherwise() {
    let read = |text| {
        let checked = Config::parse(Path::new("vipd.toml"), text).unwrap();
        (checked.force_tc, checked.xdp)
    };
    let attach = "[datapath]\nattach = \"xdp\"\n";
    assert_eq!(read(attach), (false, vipd_datapath::Xdp::Auto));
    let off = format!("{attach}[balance]\nxdp = \"off\"\n");
    assert_eq!(read(&off), (false, vipd_datapath::Xdp::Off));
    let tc = "[datapath]\nattach = \"tc\"\n";
    assert_eq!(read(tc), (true, vipd_datapath::Xdp::Off));
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
