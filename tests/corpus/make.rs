//! Makes the corpus: brings real servers, without agents, into the states that matter, and writes
//! down what they say, with what is known to be true of it.
//!
//! Not here: what the parsers must make of it.

use super::{Truth, folder};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::time::Duration;
use testbed::server::Server;
use testbed::{Ending, Pod, Testbed, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// In the order of their names.
pub(crate) const STATES: [&str; 12] = [
    "alone",
    "elected",
    "failed",
    "handshake",
    "importing",
    "ipv6",
    "master",
    "migrating",
    "noaddr",
    "replica",
    "suspected",
    "unlinked",
];
/// Those in which the asked node itself is worth more than its table.
pub(crate) const WITH_ANSWERS: [&str; 4] = ["alone", "master", "replica", "unlinked"];

const LONG: Duration = Duration::from_secs(40);
/// One slot stands alone, so that a range of one is in the texts.
const SLOTS: [&[(u16, u16)]; 3] = [
    &[(0, 5459), (5461, 5461)],
    &[(5460, 5460), (5462, 10922)],
    &[(10923, 16383)],
];
/// What a text says of the machine that it was made on.
const OF_THE_MACHINE: [&str; 6] = [
    "os:",
    "executable:",
    "config_file:",
    "total_system_memory",
    "gcc_version:",
    "mem_",
];

#[tokio::test]
#[ignore = "makes tests/corpus anew"]
async fn make_the_corpus() -> Result<()> {
    for server in Server::all()? {
        cluster(&server).await.with_context(|| server.label())?;
        ipv6(&server).await.with_context(|| server.label())?;
    }
    Ok(())
}

/// A testbed with what is known of it.
struct Maker {
    bed: Testbed,
    server: Server,
    ids: BTreeMap<usize, String>,
    truth: Truth,
}

async fn cluster(server: &Server) -> Result<()> {
    let bed = Testbed::builder("corpus").pods(7);
    let mut maker = Maker::new(bed, server).await?;
    maker.write("alone", 0).await?;
    maker.form(&SLOTS, &[(3, 0), (4, 1), (5, 2)]).await?;
    wait::until(LONG, "keys are taken", async || {
        maker.bed.write_canary("corpus", 60).await
    })
    .await?;
    maker.write("master", 0).await?;
    maker.write("replica", 3).await?;
    maker.moving_slots().await?;
    maker.handshake().await?;
    maker.a_master_dies().await?;
    maker.bed.finish().await
}

async fn ipv6(server: &Server) -> Result<()> {
    let bed = Testbed::builder("corpus6").pods(3).ipv6();
    let mut maker = Maker::new(bed, server).await?;
    maker
        .form(&[&[(0, 8191)], &[(8192, 16383)]], &[(2, 0)])
        .await?;
    maker.write("ipv6", 2).await?;
    maker.bed.finish().await
}

impl Maker {
    async fn new(builder: testbed::Builder, server: &Server) -> Result<Self> {
        let builder = builder.server(&server.program);
        let bed = builder.node_timeout(Duration::from_secs(2)).build().await?;
        let mut ids = BTreeMap::new();
        for pod in bed.pods() {
            pod.start_redis().await?;
            pod.redis_answers(LONG).await?;
            ids.insert(pod.ordinal, pod.command(&["CLUSTER", "MYID"]).await?);
        }
        Ok(Self {
            bed,
            server: server.clone(),
            ids,
            truth: Truth::default(),
        })
    }

    /// Every third node has no hostname.
    async fn form(&mut self, slots: &[&[(u16, u16)]], replicas: &[(usize, usize)]) -> Result<()> {
        let members = slots.len() + replicas.len();
        let pods = self.bed.pods();
        let pods = &pods[..members];
        for pod in pods {
            let id = self.ids[&pod.ordinal].clone();
            let epoch = (members - pod.ordinal).to_string();
            pod.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
                .await?;
            if let Some(ranges) = slots.get(pod.ordinal) {
                add_slots(pod, ranges).await?;
                self.truth.slots.insert(id.clone(), ranges.to_vec());
            }
            if self.server.has_slot_ranges() && pod.ordinal % 3 != 2 {
                let name = format!("{}.redis.default.svc.cluster.local", pod.name);
                set(pod, "cluster-announce-hostname", &name).await?;
                // From 7.2.
                let _ = set(pod, "cluster-announce-human-nodename", &pod.name).await;
                self.truth.hostnames.insert(id.clone(), name);
            }
            self.truth.addresses.insert(id, written(pod));
            meet(&pods[0], &pod.address().to_string()).await?;
        }
        for (replica, master) in replicas {
            let (id, of) = (&self.ids[replica], &self.ids[master]);
            let pod = &pods[*replica];
            wait::until(LONG, "it replicates", async || {
                pod.command::<()>(&["CLUSTER", "REPLICATE", of]).await
            })
            .await?;
            self.truth.replica_of.insert(id.clone(), of.clone());
        }
        self.truth.others = self.ids.values().take(members).cloned().collect();
        Ok(())
    }

    async fn moving_slots(&mut self) -> Result<()> {
        let (from, to) = (self.ids[&0].clone(), self.ids[&1].clone());
        let setslot = async |pod: usize, words: &[&str]| -> Result<()> {
            let all = [&["CLUSTER", "SETSLOT", "100"], words].concat();
            self.bed.pod(pod)?.command::<()>(&all).await
        };
        setslot(0, &["MIGRATING", &to]).await?;
        setslot(1, &["IMPORTING", &from]).await?;
        self.truth.open_slots = vec![format!("[100->-{to}]")];
        self.write("migrating", 0).await?;
        self.truth.open_slots = vec![format!("[100-<-{from}]")];
        self.write("importing", 1).await?;
        self.truth.open_slots.clear();
        for pod in [0, 1] {
            let stable = ["CLUSTER", "SETSLOT", "100", "STABLE"];
            self.bed.pod(pod)?.command::<()>(&stable).await?;
        }
        Ok(())
    }

    async fn handshake(&mut self) -> Result<()> {
        // Listens and never answers, so that the greeting stays for a moment.
        let nobody = self.bed.fresh_address()?;
        let listener = tokio::net::TcpListener::bind((nobody, 16379)).await?;
        meet(&*self.bed.pod(0)?, &nobody.to_string()).await?;
        self.truth.handshakes = 1;
        self.write("handshake", 0).await?;
        self.truth.handshakes = 0;
        drop(listener);
        wait::until(LONG, "it is given up", async || {
            let nodes: String = self.bed.pod(0)?.command(&["CLUSTER", "NODES"]).await?;
            ensure!(!nodes.contains("handshake"), "{nodes}");
            Ok(())
        })
        .await
    }

    async fn a_master_dies(&mut self) -> Result<()> {
        let gone = self.ids[&2].clone();
        self.bed.end_pod(2, Ending::Kill).await?;
        self.write("unlinked", 5).await?;
        // Its replica too, so that nobody is elected yet; and another master, so that there is no
        // majority to call anything failed.
        let silent = [gone.clone(), self.ids[&5].clone(), self.ids[&1].clone()];
        self.bed.pod(5)?.redis.freeze().await?;
        self.bed.pod(1)?.redis.freeze().await?;
        self.truth.flags = silent.clone().map(|id| (id, "fail?".to_owned())).into();
        self.write("suspected", 0).await?;
        self.bed.pod(1)?.redis.thaw().await?;
        self.truth.flags = silent.map(|id| (id, "fail".to_owned())).into();
        self.truth.flags.remove(&self.ids[&1]);
        self.write("failed", 0).await?;
        self.bed.pod(5)?.redis.thaw().await?;
        let heir = self.ids[&5].clone();
        self.truth.flags.remove(&heir);
        self.truth.replica_of.remove(&heir);
        let slots = self.truth.slots.remove(&gone).context("its slots")?;
        self.truth.slots.insert(heir, slots);
        self.write("elected", 0).await?;

        // Another one answers at its address.
        let other = self.bed.pod(6)?;
        other.redis.kill().await?;
        other.move_to(self.bed.pod(2)?.address()).await?;
        other.start_redis().await?;
        self.truth.flags = [(gone.clone(), "noaddr".to_owned())].into();
        self.truth.addresses.remove(&gone);
        self.write("noaddr", 0).await
    }

    /// Writes down what the pod says as soon as that is what it should be.
    async fn write(&mut self, state: &str, ordinal: usize) -> Result<()> {
        let pod = self.bed.pod(ordinal)?;
        let me = &self.ids[&ordinal];
        let mut truth = self.truth.clone();
        truth.myself.clone_from(me);
        truth.others.remove(me);
        if state == "alone" {
            truth.addresses.clear();
        }
        let folder = folder().join(self.server.label());
        std::fs::create_dir_all(&folder)?;
        let linked = state != "unlinked";
        let (nodes, conf) = wait::until(LONG, state, async || {
            let nodes: String = pod.command(&["CLUSTER", "NODES"]).await?;
            let conf = std::fs::read_to_string(pod.nodes_conf())?;
            shows(&nodes, &truth, truth.handshakes)?;
            flagged(&nodes, &truth)?;
            // Flags are written when something else is.
            shows(&conf, &truth, 0)?;
            ensure!(conf.contains("\nvars ") && conf.ends_with('\n'), "torn");
            if truth.replica_of.contains_key(me) {
                let info: String = pod.command(&["INFO", "replication"]).await?;
                let link = if linked { "up" } else { "down" };
                let status = format!("master_link_status:{link}");
                ensure!(info.contains(&status), "{info}");
                // Redis 6.0 says up as much as a second before the stream begins.
                ensure!(!info.contains("slave_repl_offset:0\r"), "{info}");
            }
            if WITH_ANSWERS.contains(&state) && state != "alone" {
                let info: String = pod.command(&["CLUSTER", "INFO"]).await?;
                ensure!(info.contains("cluster_state:ok"), "{info}");
            }
            Ok((nodes, conf))
        })
        .await?;
        let base = folder.join(state);
        std::fs::write(base.with_extension("nodes"), nodes)?;
        std::fs::write(base.with_extension("conf"), conf)?;
        if WITH_ANSWERS.contains(&state) {
            truth.keys = pod.command(&["DBSIZE"]).await?;
            truth.link_up = truth.replica_of.contains_key(me).then_some(linked);
            let info: String = pod.command(&["INFO"]).await?;
            std::fs::write(base.with_extension("info"), without_machine(&info))?;
            std::fs::write(base.with_extension("answers"), answers(&pod).await?)?;
        }
        let text = serde_json::to_string_pretty(&truth)? + "\n";
        std::fs::write(base.with_extension("json"), text)?;
        Ok(())
    }
}

/// Whether a table shows what it should; only by words, as the parsers are on trial.
fn shows(table: &str, truth: &Truth, handshakes: usize) -> Result<()> {
    let lines: Vec<&str> = table.lines().filter(|l| !l.starts_with("vars")).collect();
    ensure!(
        lines.len() == 1 + truth.others.len() + handshakes,
        "{table}"
    );
    let line = |id: &str| lines.iter().find(|line| line.starts_with(id));
    for id in truth.others.iter().chain([&truth.myself]) {
        let words: Vec<&str> = line(id).context("a line")?.split(' ').collect();
        let address = words[1];
        let master = truth.replica_of.get(id).map_or("-", String::as_str);
        ensure!(words[3] == master, "{id}: {}", words[3]);
        let at = truth.addresses.get(id).map_or(":", String::as_str);
        ensure!(address.starts_with(at), "{id}: {address}");
        if let Some(name) = truth.hostnames.get(id) {
            ensure!(address.contains(name.as_str()), "{id}: {address}");
        }
        let slots = truth.slots.get(id).cloned().unwrap_or_default();
        let slots: Vec<String> = slots
            .iter()
            .map(|range| testbed::truth::ranges(&[*range]))
            .collect();
        let open = if *id == truth.myself {
            truth.open_slots.clone()
        } else {
            Vec::new()
        };
        let want: Vec<String> = slots.into_iter().chain(open).collect();
        ensure!(words[8..].join(" ") == want.join(" "), "{id}: {words:?}");
    }
    Ok(())
}

/// Whether the nodes have exactly the flags that they should; a node without an address may have
/// others as well.
fn flagged(table: &str, truth: &Truth) -> Result<()> {
    for id in truth.others.iter().chain([&truth.myself]) {
        let line = table.lines().find(|line| line.starts_with(id.as_str()));
        let flags = line
            .and_then(|line| line.split(' ').nth(2))
            .context("flags")?;
        let doubts: Vec<&str> = flags
            .split(',')
            .filter(|flag| ["fail", "fail?", "noaddr", "handshake"].contains(flag))
            .collect();
        let want: Vec<&str> = truth
            .flags
            .get(id)
            .map(String::as_str)
            .into_iter()
            .collect();
        let more = want == ["noaddr"] && doubts.contains(&"noaddr");
        ensure!(doubts == want || more, "{id}: {flags}");
    }
    Ok(())
}

/// As Redis writes it.
fn written(pod: &Pod) -> String {
    format!("{}:{}", pod.address(), pod.redis_address().port())
}

async fn set(pod: &Pod, name: &str, value: &str) -> Result<()> {
    pod.command::<()>(&["CONFIG", "SET", name, value]).await
}

async fn meet(pod: &Pod, ip: &str) -> Result<()> {
    pod.command::<()>(&["CLUSTER", "MEET", ip, "6379"]).await
}

async fn add_slots(pod: &Pod, ranges: &[(u16, u16)]) -> Result<()> {
    let slots = ranges.iter().flat_map(|(first, last)| *first..=*last);
    let words: Vec<String> = ["CLUSTER".to_owned(), "ADDSLOTS".to_owned()]
        .into_iter()
        .chain(slots.map(|slot| slot.to_string()))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    pod.command::<()>(&words).await
}

fn without_machine(info: &str) -> String {
    let lines = info.split_inclusive('\n');
    lines
        .filter(|line| !OF_THE_MACHINE.iter().any(|key| line.starts_with(key)))
        .collect()
}

/// The raw answers to what the agent asks, one after another.
async fn answers(pod: &Pod) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for question in [
        "INFO",
        "CONFIG GET cluster-*",
        "CLUSTER NODES",
        "CLUSTER INFO",
        "CLUSTER SHARDS",
    ] {
        let mut stream = TcpStream::connect(pod.redis_address()).await?;
        stream
            .write_all(format!("{question}\r\nQUIT\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = answer.strip_suffix(b"+OK\r\n").context("QUIT")?;
        if question == "INFO" {
            let text = String::from_utf8(answer.to_vec())?;
            let (_, body) = text.split_once("\r\n").context("a length")?;
            let body = without_machine(body.strip_suffix("\r\n").context("an end")?);
            all.extend(format!("${}\r\n{body}\r\n", body.len()).into_bytes());
        } else {
            all.extend(answer);
        }
    }
    Ok(all)
}
