package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process and its children have used since they began.
type Usage struct {
	CPU      time.Duration // user and system
	Switches int64         // context switches of the threads that live, voluntary or not
}

// Sub is what was used between two readings.
func (u Usage) Sub(before Usage) Usage {
	return Usage{CPU: u.CPU - before.CPU, Switches: u.Switches - before.Switches}
}

// Usage reads it.
func (p *Process) Usage() (Usage, error) {
	pids, err := tree(p.pid)
	if err != nil {
		return Usage{}, err
	}
	var sum Usage
	for _, pid := range pids {
		cpu, err := cpuTime(pid)
		if err != nil {
			return Usage{}, err
		}
		switches, err := switches(pid)
		if err != nil {
			return Usage{}, err
		}
		sum.CPU += cpu
		sum.Switches += switches
	}
	return sum, nil
}

// cpuTime reads the CPU clock of a process (clock_getcpuclockid of POSIX): user and system time of all its threads, those
// included that have ended. It is the sum that /proc/PID/stat shows, in nanoseconds rather than in ticks of 10 ms.
func cpuTime(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED of linux/posix-timers.h
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|scheduled, &at); err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(at.Nano()), nil
}

func switches(pid int) (int64, error) {
	var sum int64
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended since
		}
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.HasSuffix(name, "voluntary_ctxt_switches") {
				n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
				if err != nil {
					return 0, fmt.Errorf("%s: %w", file, err)
				}
				sum += n
			}
		}
	}
	return sum, nil
}

// Memory is the proportional set size of the process and its children, in bytes: what is resident, with pages that
// several processes share counted in parts. The kernel's own memory for sockets is not in it.
func (p *Process) Memory() (int64, error) {
	pids, err := tree(p.pid)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		pss, err := proportional(pid)
		if err != nil {
			return 0, err
		}
		sum += pss
	}
	return sum, nil
}

func proportional(pid int) (int64, error) {
	file := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no line Pss", file)
}

// tree lists a process and everything below it.
func tree(pid int) ([]int, error) {
	pids := []int{pid}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended since
		}
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			below, err := tree(child)
			if err != nil {
				return nil, err
			}
			pids = append(pids, below...)
		}
	}
	return pids, nil
}
