package wire

import (
	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

// FromCue returns the message of a cue.
func FromCue(c engram.Cue) *engramv1.Cue {
	return &engramv1.Cue{
		Text: c.Text, Embedding: c.Embedding, Ids: c.IDs, Filter: FromFilter(c.Filter),
		Limit: int64(c.Limit), MinActivation: c.MinActivation,
		Spread: &engramv1.Spread{
			Off: c.Spread.Off, Hops: int64(c.Spread.Hops), Nodes: int64(c.Spread.Nodes),
			Edges: int64(c.Spread.Edges), MinActivation: c.Spread.MinActivation,
		},
	}
}

// ToCue returns the cue of a message, the empty one of none.
func ToCue(c *engramv1.Cue) (engram.Cue, error) {
	filter, err := ToFilter(c.GetFilter())
	if err != nil {
		return engram.Cue{}, err
	}
	spread := c.GetSpread()
	return engram.Cue{
		Text: c.GetText(), Embedding: c.GetEmbedding(), IDs: c.GetIds(), Filter: filter,
		Limit: int(c.GetLimit()), MinActivation: c.GetMinActivation(),
		Spread: engram.Spread{
			Off: spread.GetOff(), Hops: int(spread.GetHops()), Nodes: int(spread.GetNodes()),
			Edges: int(spread.GetEdges()), MinActivation: spread.GetMinActivation(),
		},
	}, nil
}

// FromRecollection returns the message of a recollection.
func FromRecollection(r *engram.Recollection) *engramv1.Recollection {
	w := &r.Why
	return &engramv1.Recollection{
		Memory: FromMemory(&r.Memory), Activation: r.Activation, Confidence: r.Confidence,
		Why: &engramv1.Why{
			Cued: w.Cued, Text: w.Text, Vector: w.Vector, Contiguity: w.Contiguity, Episode: w.Episode,
			Label: w.Label, Time: w.Time, Feedback: w.Feedback, Association: w.Association, Path: w.Path,
			Filter: w.Filter,
		},
	}
}

// ToRecollection returns the recollection of a message.
func ToRecollection(r *engramv1.Recollection) (engram.Recollection, error) {
	memory, err := ToMemory(r.GetMemory())
	if err != nil {
		return engram.Recollection{}, err
	}
	w := r.GetWhy()
	return engram.Recollection{
		Memory: memory, Activation: r.GetActivation(), Confidence: r.GetConfidence(),
		Why: engram.Why{
			Cued: w.GetCued(), Text: w.GetText(), Vector: w.GetVector(), Contiguity: w.GetContiguity(),
			Episode: w.GetEpisode(), Label: w.GetLabel(), Time: w.GetTime(), Feedback: w.GetFeedback(),
			Association: w.GetAssociation(), Path: w.GetPath(), Filter: w.GetFilter(),
		},
	}, nil
}

// FromPlan returns the message of a plan.
func FromPlan(p engram.Plan) *engramv1.Plan {
	return &engramv1.Plan{
		Terms: p.Terms, Scanned: int64(p.Scanned), Degraded: string(p.Degraded), Unembedded: p.Unembedded,
		Spread: &engramv1.Spreading{
			Seeds: int64(p.Spread.Seeds), Nodes: int64(p.Spread.Nodes), Edges: int64(p.Spread.Edges), Cut: p.Spread.Cut,
		},
	}
}

// ToPlan returns the plan of a message.
func ToPlan(p *engramv1.Plan) engram.Plan {
	spread := p.GetSpread()
	return engram.Plan{
		Terms: p.GetTerms(), Scanned: int(p.GetScanned()),
		Degraded: engram.Degradation(p.GetDegraded()), Unembedded: p.GetUnembedded(),
		Spread: engram.Spreading{
			Seeds: int(spread.GetSeeds()), Nodes: int(spread.GetNodes()), Edges: int(spread.GetEdges()), Cut: spread.GetCut(),
		},
	}
}

// FromRecall returns the message of an answer.
func FromRecall(r engram.Recall) *engramv1.RecallResponse {
	message := &engramv1.RecallResponse{Seq: r.Seq, Plan: FromPlan(r.Plan)}
	message.Recollections = make([]*engramv1.Recollection, len(r.Recollections))
	for i := range r.Recollections {
		message.Recollections[i] = FromRecollection(&r.Recollections[i])
	}
	return message
}

// ToRecall returns the answer of a message.
func ToRecall(r *engramv1.RecallResponse) (engram.Recall, error) {
	answer := engram.Recall{
		Seq: r.GetSeq(), Plan: ToPlan(r.GetPlan()),
		Recollections: make([]engram.Recollection, len(r.GetRecollections())), // none is an empty list, as the library has it
	}
	for i, recollection := range r.GetRecollections() {
		var err error
		if answer.Recollections[i], err = ToRecollection(recollection); err != nil {
			return engram.Recall{}, err
		}
	}
	return answer, nil
}
