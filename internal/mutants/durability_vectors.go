package main

// derivedVectors are vectors that get lost, are of the wrong thing, or are mixed.
func derivedVectors() []mutant {
	return []mutant{
		{
			name: "vectors-not-carried", what: "vectors that came while a checkpoint was made are dropped with its end",
			edits: []edit{{"rebase.go", `	s.carryDerived(&s.recent.derived, &recent.derived, old, &recent)
`, ``}},
			tests: "TestCheckpointsDuringReembedding",
		},
		{
			name: "next-not-carried", what: "those of the next generation are",
			edits: []edit{{"rebase.go", `	s.carryDerived(&s.recent.next, &recent.next, old, &recent)
`, ``}},
			tests: "TestCheckpointsDuringReembedding",
		},
		{
			name: "vectors-not-rewritten", what: "a segment is rewritten without the records of vectors",
			edits: []edit{{"derived.go", `yield(movedRecord{d, recordVector})`, `_ = recordVector`}},
			tests: "TestDerivedVectorsOutliveRewrites",
		},
		{
			name: "next-not-rewritten", what: "a segment is rewritten without those of the next generation",
			edits: []edit{{"derived.go", `yield(movedRecord{d, recordNext})`, `_ = recordNext`}},
			tests: "TestReembeddingCutAnywhere",
		},
		{
			name: "vector-of-replaced", what: "a memory gets the vector of the content that it replaced",
			edits: []edit{{"derived.go", `if found && v.seqOf(d) == op.version {`, `if found {`}},
			tests: "TestApplyVectors",
		},
		{
			name: "vector-kept-by-replaced", what: "a vector is counted after its memory was replaced",
			edits: []edit{{"derived.go", `	if v.embedded(d) {
		s.vectors--`, `	if v.embedded(d) {
		s.vectors -= 0`}},
			tests: "TestApplyVectors",
		},
		{
			name: "degraded-when-asked", what: "what has no vector is told of the moment when the embedder is asked",
			edits: []edit{{"embedder.go", `	case x.vector != nil && unembedded > 0:`, `	case false:`}},
			tests: "TestDegradationIsOfTheAnswer",
		},
		{
			name: "generation-unchecked", what: "a vector counts whatever generation it was made for",
			edits: []edit{{"derived.go", `	switch op.generation {
	case 0:
	case s.generation:`, `	switch n {
	case 0:
	case s.dimension:`}, {"derived.go", `	case s.next.generation:
		if _, has`, `	case s.next.dimension:
		if _, has`}},
			tests: "TestApplyVectors",
		},
		{
			name: "generation-lent-again", what: "a generation has the number of one that was given up",
			edits: []edit{{"reembed.go", `nextVectors{generation: op.seq,`, `nextVectors{generation: s.generation + 1,`}},
			tests: "TestApplyGenerations",
		},
		{
			name: "embedder-not-in-checkpoint", what: "a checkpoint does not say whose the vectors are",
			edits: []edit{{"image_build.go", `	if v.generation > 0 {`, `	if false {`}},
			tests: "TestDerivedVectorsOutliveRewrites",
		},
		{
			name: "next-not-in-checkpoint", what: "a checkpoint drops the next generation",
			edits: []edit{{"image_build.go", `	if v.next.generation > 0 {`, `	if false {`}},
			tests: "TestReembed",
		},
		{
			name: "vector-section-unread", what: "what a checkpoint's section of vectors says of its length is not checked",
			edits: []edit{{"derived.go", `if !set.decodePlaces(d, n) || !d.end() || !set.valid(m) {`, `if !set.decodePlaces(d, n) || !set.valid(m) {`}},
			tests: "TestDamageCheckpointVectors",
		},
		{
			name: "switch-before-flush", what: "the next generation counts before the journal has the switch",
			edits: []edit{
				{"reembed.go", `	_, err := s.write(ctx, []operation{op}, payloadHash{}, writeOptions{})
	return err
}

// refuseVectors`, `	a, err := s.use(ctx)
	if err != nil {
		return err
	}
	a.store.mu.Lock()
	a.store.takeNext()
	a.store.publish()
	a.store.mu.Unlock()
	a.done()
	_, err = s.write(ctx, []operation{op}, payloadHash{}, writeOptions{})
	return err
}

// refuseVectors`},
				{"reembed.go", `case op.kind == opSwitch && op.generation != s.next.generation:`, `case false:`},
			},
			tests: "TestVectorsAreDurableBeforeTheyCount",
		},
		{
			name: "switch-not-replayed", what: "after a restart the old vectors are back",
			edits: []edit{{"operation.go", `	case opSwitch:
		b = appendInt64(b, tagGeneration, int64(op.generation))`, `	case opSwitch:`}},
			tests: "TestReembeddingCutAnywhere",
		},
		{
			name: "switch-too-early", what: "the next generation is taken before all memories have its vectors",
			edits: []edit{{"embedding.go", `case len(t.texts) == 0 && t.next() &&`, `case t.next() &&`}},
			tests: "TestReembed",
		},
		{
			name: "old-vectors-compared", what: "after a switch an image's vectors of the old generation count",
			edits: []edit{{"derived.go", `if !v.imaged(d) || v.image.present.generation == v.generation {`, `if true {`}},
			tests: "TestReembedGoesOnWithoutOneText",
		},
		{
			name: "old-vectors-needed", what: "the records of vectors that were replaced stay on disk",
			edits: []edit{{"reembed.go", `	s.dropGeneration(&s.recent.derived, s.generation)
`, ``}},
			tests: "TestReembed",
		},
		{
			name: "dropped-vectors-rewritten", what: "of vectors that were given up during a checkpoint what it rewrote counts as needed",
			edits: []edit{{"rebase.go", `			if m.visibleAt(set.derived.documents.at(row), s.seq) {
				drop(`, `			if false {
				drop(`}},
			tests: "TestCheckpointsDuringReembedding",
		},
		{
			name: "given-embeddings-lost", what: "a space whose callers gave embeddings is re-embedded",
			edits: []edit{
				{"reembed.go", `case op.kind == opSwitch && s.given() > 0, op.kind == opReembed && s.given() > 0 && !s.has(op):`, `case false:`},
				{"reembed.go", `op.generation == s.next.generation && s.given() == 0:`, `op.generation == s.next.generation:`},
			},
			tests: "TestReembedKeepsGivenEmbeddings",
		},
	}
}
