// SPDX-License-Identifier: BSD-2-Clause

//! How bytes come here: by apt's own downloader where the host has one, since
//! it knows the host's proxies and credentials, else by plain HTTP(S).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Context, Error, Result};

const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// A way to download.
#[derive(Debug)]
pub(crate) enum Transport {
    /// apt's downloader.
    Apt(PathBuf),
    /// The built-in HTTP client.
    Http(ureq::Agent),
}

impl Transport {
    /// apt's downloader if the host has it and `builtin` does not forbid it.
    pub(crate) fn new(builtin: bool) -> Transport {
        if !builtin && Path::new(APT_HELPER).exists() {
            return Transport::Apt(APT_HELPER.into());
        }
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .build();
        Transport::Http(config.into())
    }

    /// Downloads `url` into the file `to`, which is replaced.
    pub(crate) fn get(&self, url: &str, to: &Path) -> Result<()> {
        // apt would resume a partial file; start afresh instead.
        let _ = fs::remove_file(to);
        match self {
            Transport::Apt(helper) => {
                let output = Command::new(helper)
                    .args(["-q", "-o", "APT::Sandbox::User=root"])
                    .args(["-o", "Acquire::Retries=2", "download-file", url])
                    .arg(to)
                    .output()
                    .context(helper.display())?;
                if !output.status.success() {
                    let text = String::from_utf8_lossy(&output.stderr);
                    return Err(Error(format!("{url}: {}", text.trim().replace('\n', "; "))));
                }
                Ok(())
            }
            Transport::Http(agent) => {
                let mut response = agent.get(url).call().context(url)?;
                let mut file = File::create(to).context(to.display())?;
                io::copy(&mut response.body_mut().as_reader(), &mut file).context(url)?;
                Ok(())
            }
        }
    }
}
