//! Loopback addresses nobody else uses: many testbeds run at once, in one process or in several.
//!
//! A testbed owns `127.A.B.0/24` (or, for IPv6, `fd7a:5ca1:A:B::/64`) as long as it holds an
//! exclusive lock on a file named for it in the system's temporary folder; the kernel gives the
//! lock back however the process ends. Linux answers on all of 127.0.0.0/8 by itself; IPv6
//! addresses are added to `lo` with `ip`, which takes root, and are removed again.
//!
//! Does not: watch for programs that use such addresses without asking for the lock.

use std::{
    fs::{File, OpenOptions},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::lock;

/// The last host number given out in a subnet; further ones are taken from another subnet.
const LAST_HOST: u16 = 250;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// 127.A.B.x
    #[default]
    V4,
    /// fd7a:5ca1:A:B::x, which takes root and the `ip` program.
    V6,
}

/// Gives out addresses, each only once.
#[derive(Debug)]
pub struct Addresses {
    family: Family,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    subnets: Vec<Subnet>,
    next_host: u16,
    added: Vec<Ipv6Addr>,
}

#[derive(Debug)]
struct Subnet {
    a: u8,
    b: u8,
    /// Held, never read: dropping it frees the subnet.
    _lock: File,
}

impl Addresses {
    /// Claims a first subnet.
    ///
    /// # Errors
    /// When no lock file can be made, or every subnet is taken.
    pub fn claim(family: Family) -> Result<Self> {
        let state = State {
            subnets: vec![claim_subnet()?],
            next_host: 1,
            added: Vec::new(),
        };
        Ok(Self {
            family,
            state: Mutex::new(state),
        })
    }

    /// An address that was never given out before by this testbed.
    ///
    /// # Errors
    /// When a further subnet is needed and none is free, or `ip` fails.
    pub fn fresh(&self) -> Result<IpAddr> {
        let mut state = lock(&self.state);
        if state.next_host > LAST_HOST {
            state.subnets.push(claim_subnet()?);
            state.next_host = 1;
        }
        let host = state.next_host;
        state.next_host += 1;
        let Some(Subnet { a, b, .. }) = state.subnets.last() else {
            bail!("no subnet is claimed");
        };
        let (a, b) = (*a, *b);
        match self.family {
            Family::V4 => Ok(Ipv4Addr::new(127, a, b, u8::try_from(host)?).into()),
            Family::V6 => {
                let ip = Ipv6Addr::new(0xfd7a, 0x5ca1, a.into(), b.into(), 0, 0, 0, host);
                ip_addr("add", ip)?;
                state.added.push(ip);
                Ok(ip.into())
            }
        }
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        for ip in std::mem::take(&mut lock(&self.state).added) {
            if let Err(error) = ip_addr("del", ip) {
                eprintln!("testbed: {error:#}");
            }
        }
    }
}

/// Each claim starts its search elsewhere, so that a subnet rests before it is used again.
fn claim_subnet() -> Result<Subnet> {
    static CLAIMS: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    let folder = locks()?;
    for _ in 0..64_000 {
        let n = start.wrapping_add(CLAIMS.fetch_add(1, Ordering::Relaxed)) % 64_000;
        let (a, b) = (u8::try_from(1 + n / 256)?, u8::try_from(n % 256)?);
        let path = folder.join(format!("127.{a}.{b}.lock"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Subnet { a, b, _lock: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => bail!("lock {}: {error}", path.display()),
        }
    }
    bail!("every 127.A.B.0/24 is claimed by another testbed")
}

fn locks() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("redis-sidecar-testbed");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

fn ip_addr(verb: &str, ip: Ipv6Addr) -> Result<()> {
    let cidr = format!("{ip}/128");
    let mut arguments = vec!["-6", "addr", verb, &cidr, "dev", "lo"];
    if verb == "add" {
        arguments.push("nodad");
    }
    let output = Command::new("ip")
        .args(&arguments)
        .output()
        .context("run `ip` (iproute2)")?;
    if !output.status.success() {
        bail!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
