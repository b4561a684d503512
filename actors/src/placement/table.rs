//! Who owns which bucket, computed from who lives.

use lmao_events::Hash;
use lmao_ports::{BUCKETS, NodeId, NodeInfo, Role};

use super::Buckets;

/// The live nodes and the owners of all buckets: the same on every node that sees the same leases.
///
/// Rendezvous hashing (Thaler and Ravishankar 1998): a bucket goes to the worker with the highest hash of both. When
/// a node comes or goes, only its own buckets move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    nodes: Vec<NodeInfo>,
    owners: Vec<Option<NodeId>>,
}

impl Table {
    /// The table of these nodes.
    #[must_use]
    pub fn of(nodes: Vec<NodeInfo>) -> Self {
        let workers: Vec<_> = nodes.iter().filter(|node| node.roles.contains(&Role::Worker)).collect();
        let owner = |bucket: u8| {
            let willing = workers.iter().filter(|node| !node.gave_up.contains(&bucket));
            willing.map(|node| node.id).max_by_key(|node| (weight(*node, bucket), *node))
        };
        let owners = (0..=u8::MAX).map(owner).collect();
        debug_assert_eq!((0..=u8::MAX).count(), BUCKETS);
        Self { nodes, owners }
    }

    /// The node that works for `bucket`; `None` while no worker lives that can.
    #[must_use]
    pub fn owner(&self, bucket: u8) -> Option<NodeId> {
        self.owners.get(usize::from(bucket)).copied().flatten()
    }

    /// The buckets that `node` works for.
    #[must_use]
    pub fn buckets_of(&self, node: NodeId) -> Buckets {
        (0..=u8::MAX).filter(|bucket| self.owner(*bucket) == Some(node)).collect()
    }

    /// The one node with this role that has the duty `name`; `None` while none with it lives.
    #[must_use]
    pub fn on_duty(&self, role: Role, name: &str) -> Option<NodeId> {
        let willing = self.nodes.iter().filter(|node| node.roles.contains(&role));
        let weight = |node: NodeId| Hash::of(&[node.0.as_bytes(), name.as_bytes()].concat()).0;
        willing.map(|node| node.id).max_by_key(|node| (weight(*node), *node))
    }

    /// Who lives.
    #[must_use]
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// Those that own buckets or would.
    pub(crate) fn workers(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().filter(|node| node.roles.contains(&Role::Worker)).map(|node| node.id)
    }

    /// Whether `node` lives.
    #[must_use]
    pub fn lives(&self, node: NodeId) -> bool {
        self.nodes.iter().any(|known| known.id == node)
    }

    /// Whether every live node reads this set of events ([`lmao_events::EVENT_SET`]): only then may anybody write it.
    #[must_use]
    pub fn can_write(&self, event_set: u32) -> bool {
        !self.nodes.is_empty() && self.nodes.iter().all(|node| node.reads >= event_set)
    }
}

fn weight(node: NodeId, bucket: u8) -> [u8; 32] {
    let mut bytes = [0; 17];
    bytes[..16].copy_from_slice(node.0.as_bytes());
    bytes[16] = bucket;
    Hash::of(&bytes).0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;

    fn node(n: u128, roles: &[Role]) -> NodeInfo {
        NodeInfo {
            id: NodeId(Uuid::from_u128(n)),
            name: n.to_string(),
            roles: roles.iter().copied().collect(),
            reads: 1,
            gave_up: BTreeSet::new(),
        }
    }

    fn workers(n: u128) -> Vec<NodeInfo> {
        (0..n).map(|n| node(n, &[Role::Worker])).collect()
    }

    #[test]
    fn buckets_are_spread_over_workers_and_only_over_them() {
        let mut nodes = workers(4);
        nodes.push(node(9, &[Role::Gateway, Role::Projector]));
        let table = Table::of(nodes);
        for n in 0..4 {
            let owned = table.buckets_of(NodeId(Uuid::from_u128(n))).len();
            assert!((32..=96).contains(&owned), "node {n} owns {owned} of 256");
        }
        assert!(table.buckets_of(NodeId(Uuid::from_u128(9))).is_empty());
        assert_eq!(Table::of(vec![]).owner(0), None);
    }

    #[test]
    fn only_the_buckets_of_who_comes_or_goes_move() {
        let (three, four) = (Table::of(workers(3)), Table::of(workers(4)));
        let new = NodeId(Uuid::from_u128(3));
        let moved = (0..=u8::MAX).filter(|bucket| three.owner(*bucket) != four.owner(*bucket));
        assert_eq!(moved.collect::<Buckets>(), four.buckets_of(new));
    }

    #[test]
    fn a_bucket_that_its_owner_gave_up_goes_to_another_and_to_nobody_in_the_end() {
        let before = Table::of(workers(2));
        let mut nodes = workers(2);
        let owner = before.owner(7).unwrap();
        nodes.iter_mut().find(|node| node.id == owner).unwrap().gave_up.insert(7);
        let after = Table::of(nodes.clone());
        assert!(after.owner(7).is_some_and(|other| other != owner));
        assert_eq!(after.owner(8), before.owner(8));
        nodes.iter_mut().for_each(|node| node.gave_up = BTreeSet::from([7]));
        assert_eq!(Table::of(nodes).owner(7), None);
    }

    #[test]
    fn nothing_is_written_that_some_live_node_does_not_read() {
        let mut nodes = workers(2);
        nodes[1].reads = 2;
        let table = Table::of(nodes.clone());
        assert!(table.can_write(1) && !table.can_write(2));
        nodes[0].reads = 3;
        assert!(Table::of(nodes).can_write(2));
        assert!(!Table::of(vec![]).can_write(1));
    }

    #[test]
    fn the_places_of_buckets_stay() {
        let table = Table::of(workers(3));
        let owners: Vec<u128> = (0..8).map(|bucket| table.owner(bucket).unwrap().0.as_u128()).collect();
        assert_eq!(owners, [2, 1, 1, 2, 0, 1, 0, 1], "nodes of two builds must agree");
    }
}
