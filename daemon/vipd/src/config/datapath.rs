//! `[datapath]`: the eBPF programs of this node.

use std::path::PathBuf;

use serde::Deserialize;
use vipd_datapath::Xdp;

/// `[datapath]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatapathSection {
    /// `auto`, `tc`, or `xdp`: `auto` with `xdp = "auto"` under `[balance]`.
    pub attach: String,
    /// Where maps and links are pinned, on a bpffs.
    pub pin_dir: PathBuf,
}

impl Default for DatapathSection {
    fn default() -> Self {
        Self {
            attach: "auto".into(),
            pin_dir: vipd_datapath::DEFAULT_PIN_DIR.into(),
        }
    }
}

impl DatapathSection {
    /// Whether clsact is wanted even where tcx is there, and XDP where `[balance]` does not say.
    ///
    /// # Errors
    /// If it says anything else, with the key.
    pub(super) fn attach(&self) -> Result<(bool, Xdp), (&'static str, String)> {
        match self.attach.as_str() {
            "auto" => Ok((false, Xdp::Off)),
            "tc" => Ok((true, Xdp::Off)),
            "xdp" => Ok((false, Xdp::Auto)),
            other => {
                let why = format!("{other:?} is not one of auto, tc, xdp");
                Err(("datapath.attach", why))
            }
        }
    }
}
