package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// The diagram's axes: a square of diagramSide from the corner at
// (diagramLeft, diagramTop).
const (
	diagramSide = 240
	diagramLeft = 40
	diagramTop  = 20
)

// writeDiagram draws the bins as points, whose area grows with how many
// recollections they are of, beside the diagonal on which they ought to lie.
func (r *reliability) writeDiagram(w io.Writer, title string) error {
	x := func(share float64) int { return int(math.Round(diagramLeft + diagramSide*share)) }
	y := func(share float64) int { return int(math.Round(diagramTop + diagramSide*(1-share))) }
	var failed error
	line := func(format string, args ...any) {
		_, err := fmt.Fprintf(w, format+"\n", args...)
		failed = errors.Join(failed, err)
	}
	line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 310" width="450" font-family="sans-serif" font-size="9">`)
	line(`<rect width="300" height="310" fill="white"/>`)
	line(`<text x="%d" y="13">%s: ECE %.3f</text>`, x(0), title, r.Error)
	for tick := range 6 {
		share := float64(tick) / 5
		line(`<path d="M%d %dH%dM%d %dV%d" stroke="#ddd"/>`, x(0), y(share), x(1), x(share), y(0), y(1))
		line(`<text x="%d" y="%d" text-anchor="end">%.1f</text>`, x(0)-4, y(share)+3, share)
		line(`<text x="%d" y="%d" text-anchor="middle">%.1f</text>`, x(share), y(0)+12, share)
	}
	line(`<path d="M%d %dL%d %d" stroke="#888" stroke-dasharray="4 3"/>`, x(0), y(0), x(1), y(1))
	for _, bin := range r.Bins {
		if bin.Recollections > 0 {
			line(`<circle cx="%d" cy="%d" r="%.1f" fill="#36c"><title>%d recollections: confidence %.3f, answers %.3f</title></circle>`,
				x(bin.Confidence), y(bin.Answers), 1+math.Log10(float64(bin.Recollections)), bin.Recollections, bin.Confidence, bin.Answers)
		}
	}
	line(`<text x="%d" y="%d" text-anchor="middle">confidence</text>`, x(0.5), y(0)+26)
	line(`<text transform="translate(12 %d) rotate(-90)" text-anchor="middle">share that answers</text>`, y(0.5))
	line(`</svg>`)
	return failed
}

// writeDiagramFile writes the diagram to a file of that name.
func (r *reliability) writeDiagramFile(name, title string) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return r.writeDiagram(file, title)
}
