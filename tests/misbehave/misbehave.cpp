// A gain that is exact in mode 0 and does what bad plugins do in the others; a copy of the file whose name holds
// "crashing" or "hanging" does so on loading.
#include "DistrhoPlugin.hpp"
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <unistd.h>

START_NAMESPACE_DISTRHO

enum Mode { kGood, kSegfault, kAbort, kHang, kNan, kInf, kRemembers, kSmooth, kSlow, kFalseLatency, kNoise,
            kSometimes, kLeaks, kFallsSilent, kFallsDry, kPrints, kModes };
enum { kGain, kMode, kCount, kParameters };

class Misbehave : public Plugin {
    float gain = 0, mode = 0, count = 8, held = 1, memory[2] = {0, 0};
    long renders = 0, blocks = 0;
    unsigned seed = 1;

public:
    Misbehave() : Plugin(kParameters, 0, 0) {
        Dl_info own;
        if (!dladdr((const void*)&modeOf, &own)) return;
        if (strstr(own.dli_fname, "crashing")) *(volatile int*)nullptr = 1;
        while (strstr(own.dli_fname, "hanging")) usleep(1000);
    }

protected:
    static int modeOf(float value) { return (int)(value + 0.5f); }
    const char* getLabel() const override { return "Misbehave"; }
    const char* getMaker() const override { return "blackbox_fx"; }
    const char* getLicense() const override { return "Apache-2.0"; }
    uint32_t getVersion() const override { return d_version(1, 0, 0); }
    int64_t getUniqueId() const override { return d_cconst('B', 'f', 'M', 'b'); }

    void initParameter(uint32_t index, Parameter& p) override {
        static const struct { const char* name; float low, high, def; } known[] = {
            {"Gain", -60, 12, 0}, {"Mode", 0, kModes - 1, 0}, {"Count", 1, 1000, 8}};
        p.hints = kParameterIsAutomatable | (index == kGain ? 0 : kParameterIsInteger);
        p.name = known[index].name;
        p.symbol = known[index].name;
        p.unit = index == kGain ? "dB" : "";
        p.ranges.min = known[index].low;
        p.ranges.max = known[index].high;
        p.ranges.def = known[index].def;
    }

    float getParameterValue(uint32_t index) const override { return index == kGain ? gain : index == kMode ? mode : count; }
    void setParameterValue(uint32_t index, float value) override { (index == kGain ? gain : index == kMode ? mode : count) = value; }

    void activate() override {  // a host resets by this, once for each render
        ++renders;
        held = std::pow(10.f, gain / 20);
        setLatency(modeOf(mode) == kFalseLatency ? 64 : 0);
        if (modeOf(mode) == kLeaks) { static void* volatile kept; kept = memset(malloc(8 << 20), 1, 8 << 20); }
        if (modeOf(mode) == kPrints) { puts("said on stdout"); fflush(stdout); fputs("said on stderr\n", stderr); }
        static long turn = 0;  // of the process
        if (modeOf(mode) == kSometimes && ++turn > count) *(volatile int*)nullptr = 1;
    }

    void run(const float** in, float** out, uint32_t frames) override {
        const int m = modeOf(mode);
        const float g = std::pow(10.f, gain / 20);
        ++blocks;
        if (m == kSegfault) *(volatile int*)nullptr = 1;
        if (m == kAbort) abort();
        while (m == kHang) usleep(1000);
        if (m == kSlow) usleep(20000);
        for (int c = 0; c < 2; ++c)
            for (uint32_t k = 0; k < frames; ++k) {
                if (m == kSmooth && c == 0) held += (g - held) * 5e-4f;
                float y = (m == kSmooth ? held : g) * in[c][k];
                if (m == kNan && k == frames / 2) y = NAN;
                if (m == kInf) y = INFINITY;
                if (m == kRemembers) y += memory[c] = 0.999f * memory[c] + 0.1f * y;
                if (m == kNoise) y += 1e-2f * (((seed = seed * 1664525u + 1013904223u) >> 9) / 4194304.f - 1);
                if (m == kFallsSilent && renders > count) y = 0;
                if (m == kFallsDry && renders > count) y = in[c][k];
                out[c][k] = y;
            }
    }
};

Plugin* createPlugin() { return new Misbehave(); }

END_NAMESPACE_DISTRHO
