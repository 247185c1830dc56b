//! A network that falls apart: pods that cannot reach each other while all of them run.
//!
//! Every pod's processes run under a group ID of their own, by which the kernel's packet filter
//! tells who sends (on loopback an agent's questions come from 127.0.0.1). Packets vanish without
//! an answer, on connections that are open too, as when a cable is cut. It takes root and `nft`.
//!
//! The rules are in a table named for the testbed's subnet. It goes with the testbed; where a test
//! is killed, what it had cut heals after [`FORGOTTEN_AFTER`].
//! Does not: cut off the DNS, or the test itself.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::IpAddr,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{Pod, Testbed, pod::HTTP_PORT};

/// For cuts that nobody could take back.
const FORGOTTEN_AFTER: &str = "300s";

/// How far pods are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// No packet goes either way.
    Both,
    /// What the first sends never arrives at the second. TCP needs both ways, so they cannot talk,
    /// but the second's agent can ask the first.
    Sends,
    /// The first cannot call the second: neither its Redis, nor its bus, nor its agent. The second
    /// can call the first, and is answered.
    Calls,
    /// The first cannot call the second's cluster bus, as where a NetworkPolicy forgets that port.
    BusCalls,
}

/// A packet filter of one testbed.
#[derive(Debug)]
pub(crate) struct Splitter {
    table: String,
}

impl Splitter {
    /// An empty filter. `ip` is any address of the testbed's subnet.
    ///
    /// # Errors
    /// When this machine has no `nft`, or lets us not use it.
    pub(crate) fn new(ip: IpAddr, redis_port: u16) -> Result<Self> {
        let (a, b, _) = place(ip);
        let table = format!("inet redis_sidecar_testbed_{a}_{b}");
        let bus_port = redis_port + 10_000;
        let mut rules = format!("add table {table}\ndelete table {table}\nadd table {table}\n");
        writeln!(
            rules,
            "add chain {table} out {{ type filter hook output priority 0; }}"
        )?;
        let any = format!("tcp dport {{ {redis_port}, {bus_port}, {HTTP_PORT} }} ");
        let bus = format!("tcp dport {bus_port} ");
        for (family, ip) in [("ipv4_addr", "ip"), ("ipv6_addr", "ip6")] {
            for (set, ports) in [("all", ""), ("calls", &*any), ("bus", &*bus)] {
                writeln!(
                    rules,
                    "add set {table} {set}_{ip} {{ type gid . {family}; flags timeout; timeout {FORGOTTEN_AFTER}; }}\n\
                     add rule {table} out meta skgid . {ip} daddr @{set}_{ip} {ports}drop"
                )?;
            }
        }
        nft(&rules)?;
        Ok(Self { table })
    }

    fn cut(&self, from: &Pod, to: &Pod, set: &str) -> Result<()> {
        let gid = from
            .gid()
            .with_context(|| format!("{} has no group of its own", from.name))?;
        let to = to.address();
        let ip = if to.is_ipv4() { "ip" } else { "ip6" };
        let table = &self.table;
        nft(&format!(
            "add element {table} {set}_{ip} {{ {gid} . {to} }}\n"
        ))
    }

    fn mend(&self) -> Result<()> {
        let mut rules = String::new();
        for ip in ["ip", "ip6"] {
            for set in ["all", "calls", "bus"] {
                writeln!(rules, "flush set {} {set}_{ip}", self.table)?;
            }
        }
        nft(&rules)
    }
}

impl Drop for Splitter {
    fn drop(&mut self) {
        if let Err(error) = nft(&format!("delete table {}\n", self.table)) {
            eprintln!("testbed: {error:#}");
        }
    }
}

impl Testbed {
    /// Cuts each pod of `from` off from each pod of `to`, at its present address, on top of what is
    /// cut already. Only in a testbed that was built [`crate::Builder::divisible`].
    ///
    /// # Errors
    /// When it was not, or the filter refuses.
    pub fn cut(&self, from: &[usize], to: &[usize], cut: Cut) -> Result<()> {
        let splitter = self.splitter().context("not built to be divisible")?;
        for one in from {
            for other in to {
                let (one, other) = (self.pod(*one)?, self.pod(*other)?);
                match cut {
                    Cut::Both => {
                        splitter.cut(&one, &other, "all")?;
                        splitter.cut(&other, &one, "all")?;
                    }
                    Cut::Sends => splitter.cut(&one, &other, "all")?,
                    Cut::Calls => splitter.cut(&one, &other, "calls")?,
                    Cut::BusCalls => splitter.cut(&one, &other, "bus")?,
                }
            }
        }
        Ok(())
    }

    /// Takes every cut back.
    ///
    /// # Errors
    /// When the testbed was not built to be divisible, or the filter refuses.
    pub fn mend(&self) -> Result<()> {
        let splitter = self.splitter().context("not built to be divisible")?;
        splitter.mend()
    }
}

/// The group ID of a pod's processes: as nobody else's as its first address is.
pub(crate) fn gid(ip: IpAddr) -> u32 {
    let (a, b, host) = place(ip);
    u32::from_be_bytes([0x52, a, b, host])
}

/// The subnet's two numbers, and the host's.
fn place(ip: IpAddr) -> (u8, u8, u8) {
    let low = |segment: u16| segment.to_be_bytes()[1];
    match ip {
        IpAddr::V4(ip) => {
            let [_, a, b, host] = ip.octets();
            (a, b, host)
        }
        IpAddr::V6(ip) => {
            let [_, _, a, b, _, _, _, host] = ip.segments();
            (low(a), low(b), low(host))
        }
    }
}

fn nft(rules: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run `nft` (nftables)")?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(rules.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    let first = error.lines().next().unwrap_or_default();
    ensure!(output.status.success(), "nft: {first}");
    Ok(())
}
