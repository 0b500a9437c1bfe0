package main

// partitions are partitions that get lost, are of other vectors, or hide memories.
func partitions() []mutant {
	return []mutant{
		{
			name: "partition-not-loaded", what: "a space that wakes does not know that its vectors are partitioned",
			edits: []edit{{"reembed.go", `		partition: m.present.partition,
`, ``}},
			tests: "TestPartitionedAnswersShowTheStateAlone",
		},
		{
			name: "leaf-begins-late", what: "the first row of a leaf is not scanned",
			edits: []edit{{"partition.go", `from = x.ends.at(uint32(leaf) - 1)`, `from = min(x.ends.at(uint32(leaf)-1)+1, x.ends.at(uint32(leaf)))`}},
			tests: "TestPartitionedAnswersShowTheStateAlone",
		},
		{
			name: "recent-in-any-leaf", what: "what came since the checkpoint counts, whether its leaf is probed or not",
			edits: []edit{{"probe.go", `	s.keepProbed(liveRecent, recent.leavesUnder(p))
`, ``}},
			tests: "TestPartitionedAnswersShowTheStateAlone",
		},
		{
			name: "imaged-in-any-leaf", what: "what a checkpoint without the partition holds counts, whether its leaf is probed or not",
			edits: []edit{{"probe.go", `		s.keepProbed(liveImaged, set.vectors.leaves.under(p, &set.vectors.codes))
`, ``}},
			tests: "TestPartitionedAnswersShowTheStateAlone",
		},
		{
			name: "leaves-of-another-partition", what: "rows keep the leaves of the partition before",
			edits: []edit{{"partition.go", `	if x.of != p.leaves {`, `	if x.of == nil {`}},
			tests: "TestPartitionedAnswersShowTheStateAlone",
		},
		{
			name: "filter-ends-probing", what: "no further leaves are probed where a filter leaves few memories in the first ones",
			edits: []edit{{"probe.go", `float64(gap) > p.slack && rows >= enough`, `float64(gap) > p.slack`}},
			tests: "TestPartitionedRecallsFilterAnywhere",
		},
		{
			name: "dead-end-probing", what: "memories that a filter leaves out count as scanned",
			edits: []edit{{"probe.go", `		rows = 0
		for _, word`, `		for _, word`}},
			tests: "TestPartitionedRecallsFilterAnywhere",
		},
		{
			name: "few-matches-enough", what: "nothing is searched behind the probed leaves though few of their memories match",
			edits: []edit{{"vector.go", `return all || s.matching(n)`, `return all || len(s.found) > 0`}},
			tests: "TestPartitionedRecallsFindWhatMatches",
		},
		{
			name: "depth-of-few", what: "a scan of leaves ranks so few rows that what is nearest is missed",
			edits: []edit{{"train.go", `depthMargin*(mostOf(m.ahead, share)+1)`, `mostOf(m.ahead, share)/8+1`}},
			tests: "TestPartitionHoldsWhatIsNearToCues",
		},
		{
			name: "depth-as-trained", what: "a scan of leaves ranks no more rows where the space has grown",
			edits: []edit{{"partition.go", `wider * wider * math.Sqrt(growth)`, `wider * wider * math.Sqrt(1)`}},
			tests: "TestPartitionDepth",
		},
		{
			name: "depth-of-wide", what: "a scan of leaves ranks no more rows where more are scanned",
			edits: []edit{{"partition.go", `wider := max(1, float`, `wider := min(1, float`}},
			tests: "TestPartitionDepth",
		},
		{
			name: "depth-of-dead", what: "a scan of leaves ranks more rows for those that are dead or in no probed leaf",
			edits: []edit{{"vector.go", `depthFor(v.vectors, rows, n)`, `depthFor(v.vectors, int(s.ranges[len(s.ranges)-1].end)+0*rows, n)`}},
			tests: "TestPartitionedAnswersShowTheStateAlone",
		},
		{
			name: "gaps-ignored", what: "leaves are probed until there are rows enough, however near the next ones are",
			edits: []edit{{"probe.go", `float64(gap) > p.slack && rows >= enough`, `gap >= 0 && rows >= enough`}},
			tests: "TestPartitionHoldsWhatIsNearToCues",
		},
		{
			name: "partition-outlives-vectors", what: "the vectors of another embedder are partitioned as the last ones were",
			edits: []edit{{"reembed.go", `	s.partition = nil
`, ``}},
			tests: "TestApplyPartition",
		},
		{
			name: "partition-of-any-vectors", what: "a partition counts whatever generation it was made for",
			edits: []edit{{"partition.go", `op.dimension == x.dimension && op.generation == x.generation`, `op.dimension == x.dimension`}},
			tests: "TestApplyPartition",
		},
		{
			name: "document-in-two-leaves", what: "a checkpoint may have a memory's vector twice",
			edits: []edit{{"partition.go", `x.rowOf[d] != 0 ||`, `false ||`}},
			tests: "TestDamageCheckpointPartition",
		},
		{
			name: "partitioned-again", what: "a space is partitioned at each checkpoint",
			edits: []edit{{"train.go", `s.vectors >= partitionGrowth*s.partition.trained`, `s.vectors >= s.partition.trained`}},
			tests: "TestPartitionThatDoesNotPay",
		},
		{
			name: "centroid-of-one", what: "a centroid is the copy of one vector, which outlives it",
			edits: []edit{{"internal/rabitq/partition.go", `minLeafRows = 8`, `minLeafRows = 1`}},
			tests: "TestPartitionHasNoLeafOfOneRow", pkg: "internal/rabitq",
		},
	}
}
