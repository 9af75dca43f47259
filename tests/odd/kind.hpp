// The plugin of one KIND, which odd.cpp includes for each.
#define INSIDE_OF(kind) kind_##kind
#define INSIDE(kind) INSIDE_OF(kind)
namespace INSIDE(KIND) {
#if KIND == K_LATPARAM || KIND == K_LATELATENCY
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Lookahead","ms",0,20,5,0}};
#elif KIND == K_SAMENAME
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Gain","dB",-24,24,0,0}};
#elif KIND == K_CJK
static const Def D[] = {{"\xe9\x9f\xb3\xe9\x87\x8f","dB",-24,24,0,0},{"\xe6\xb7\xb7\xe9\x9f\xbf","",0,1,1,0}};
#elif KIND == K_MODERESET || KIND == K_FORGETSMODE
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Style","",0,3,0,kParameterIsInteger}};
#elif KIND == K_BANK
static const Def D[] = {{"Style","",0,3,0,kParameterIsInteger},{"Bank","",0,3,0,kParameterIsInteger}};
#elif KIND == K_MODEL
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Model","",0,12,0,kParameterIsInteger}};
#elif KIND == K_FORGETSOPTION || KIND == K_FORGETSVALUE
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Style","",0,3,0,kParameterIsInteger}};
#elif KIND == K_MUTED
static const Def D[] = {{"Off","",0,1,0,kParameterIsBoolean},{"Mode","",0,3,0,kParameterIsInteger},{"Gain","dB",-24,24,0,0}};
#elif KIND == K_FORGETSONE || KIND == K_FORGETSRATE
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Trim","dB",-24,24,0,0}};
#elif KIND == K_SWITCHES // any of them mutes it, and what it remembers outlives a reset
#define OFF(n) {"Off " n,"",0,1,0,kParameterIsBoolean}
static const Def D[] = {{"Gain","dB",-24,24,0,0},OFF("1"),OFF("2"),OFF("3"),OFF("4"),OFF("5"),OFF("6"),OFF("7"),OFF("8")};
#elif KIND == K_UPPER || KIND == K_LOWER
static const Def D[] = {{"Macro","",0,1,0.5f,0},{"Gain","dB",-24,24,0,0},{"Trim","dB",-24,24,0,0}};
#elif KIND == K_ONEMODE
static const Def D[] = {{"Style","",0,5,0,kParameterIsInteger},{"Gain","dB",-24,24,0,0},{"Trim","dB",-24,24,0,0}};
#elif KIND == K_MACRO
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Macro","",0,1,0,0}};
#elif KIND == K_BYPASS
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Bypass","",0,1,0,kParameterIsBoolean}};
#elif KIND == K_TRIGGER
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Tap","",0,1,0,kParameterIsTrigger}};
#elif KIND == K_METER
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Level","",0,1,0,0}};
#elif KIND == K_METERS
static const Def D[] = {{"Gain","dB",-24,24,0,0},{"Flash","",0,1,0,kParameterIsTrigger},{"Level","dB",-90,20,-90,kParameterIsOutput},{"Mute","",0,1,0,kParameterIsBoolean}};
#elif KIND == K_TEMPO
static const Def D[] = {{"Depth","",0,1,1,0}};
#elif defined(PNAME)
static const Def D[] = {{PNAME,"dB",-24,24,0,0}};
#else
static const Def D[] = {{"Gain","dB",-24,24,0,0}};
#endif
enum { N = sizeof(D)/sizeof(D[0]) };
class Odd : public Plugin {
  float v[N]; float cur = 1.f; std::vector<float> ring[8]; size_t w = 0; float st[2][64]; long frames=0;
  bool renewed=false; std::atomic<bool> ready{false}; std::thread th; std::atomic<float> target{0.f}; std::atomic<bool> stop{false}; pthread_t creator;
 public:
  Odd() : Plugin(N,0,0), creator(pthread_self()) {
    for (int i=0;i<N;i++) v[i]=D[i].def; memset(st,0,sizeof st); for(auto&r:ring) r.assign(1<<16,0.f);
#if KIND == K_SLOWSET
    th = std::thread([this]{ float seen=0; int age=0; while(!stop) { usleep(10000); age = v[0]==seen ? age+1 : 0; seen=v[0]; if (age>=15) target=seen; } });
#endif
#if KIND == K_WARMUP
    th = std::thread([this]{ for(int k=0;k<30 && !stop;k++) usleep(10000); ready=true; });
#endif
#if KIND == K_SLOWSETTING
    ready=true; th = std::thread([this]{ float seen=1.f; int since=0; while(!stop){ usleep(10000); float t=target; if(t!=seen){seen=t;since=0;} else if(++since==15) cur=t; } });
#endif
  }
#if KIND == K_MODEL
  // the last model is read in the background, the others at once
  void choose(int m) { if (th.joinable()) th.join(); if (m<12) cur=1.f/(1+m); else th = std::thread([this]{ usleep(60000); cur=1.f/13; }); }
#endif
  ~Odd() { stop=true; if (th.joinable()) th.join(); }
 protected:
  const char* getLabel() const override {return NAME;} const char* getMaker() const override {return "Odd";}
  const char* getLicense() const override {return "ISC";} uint32_t getVersion() const override {return d_version(1,0,0);}
  int64_t getUniqueId() const override {return d_cconst('B','h','0','0'+KIND);}
  void initParameter(uint32_t i, Parameter& p) override {
#if KIND == K_BYPASS
    if (i==1) { p.initDesignation(kParameterDesignationBypass); return; }
#endif
    p.hints = (D[i].hints & kParameterIsOutput ? 0 : kParameterIsAutomatable) | D[i].hints; p.name = D[i].name; p.symbol = String("p") + String((int)i); p.unit = D[i].unit;
    p.ranges.min=D[i].lo; p.ranges.max=D[i].hi; p.ranges.def=D[i].def; }
  float getParameterValue(uint32_t i) const override { return v[i]; }
  void lat() {
#if KIND == K_LATPARAM
    setLatency((uint32_t)std::lround(v[1]*1e-3*getSampleRate()));
#elif KIND == K_LIES
    setLatency(300);
#endif
  }
  void setParameterValue(uint32_t i, float x) override {
#if KIND == K_MODERESET || KIND == K_FORGETSMODE
    if (i==1) { if ((int)(x+.5f)==3 && (int)(v[1]+.5f)!=3) v[0]=-12; }
#elif KIND == K_BANK
    if (i==1 && (int)(x+.5f)!=(int)(v[1]+.5f)) v[0]=0;
#elif KIND == K_MODEL
    if (i==1 && (int)(x+.5f)!=(int)(v[1]+.5f)) choose((int)(x+.5f));
#elif KIND == K_MACRO
    if (i==1 && x!=v[1]) v[0]=-24+12*x;
#elif KIND == K_UPPER
    if (i==0 && x>0.9f) v[1]=-20;
#elif KIND == K_LOWER
    if (i==0 && x<0.1f) v[1]=-20;
#elif KIND == K_MUTED
    if (i==1 && (int)(x+.5f)!=(int)(v[1]+.5f)) v[2]=-20;
#elif KIND == K_ONEMODE
    if (i==0 && (int)(x+.5f)==4) v[1]=-20;
#endif
    v[i]=x; lat(); }
  void activate() override { for(auto&r:ring) std::fill(r.begin(),r.end(),0.f); w=0; frames=0; lat();
#if KIND == K_FORGETSLATE
    renewed=true;
#endif
#if KIND != K_SWITCHES
    memset(st,0,sizeof st);
#endif
#if KIND == K_FORGETS || KIND == K_FORGETSONE
    v[0]=D[0].def;
#elif KIND == K_FORGETSMODE
    v[0]=D[0].def; v[1]=D[1].def;
#elif KIND == K_FORGETSOPTION
    v[1]=D[1].def;
#elif KIND == K_FORGETSVALUE // other ones than its defaults
    v[0]=-3; v[1]=2;
#endif
  }
  void sampleRateChanged(double) override {
#if KIND == K_FORGETSRATE
    v[0]=D[0].def;
#endif
  }
  void run(const float** in, float** out, uint32_t n) override {
    if (renewed) v[0]=D[0].def;
    renewed=false;
    float g = std::pow(10.f, v[0]/20);
#if KIND == K_LATPARAM || KIND == K_LATELATENCY
    int d = (int)std::lround(v[1]*1e-3*getSampleRate());
#if KIND == K_LATELATENCY
    setLatency(d);
#endif
    for(uint32_t k=0;k<n;k++){ for(int c=0;c<2;c++){ ring[c][(w+k)&65535]=in[c][k]; out[c][k]=g*ring[c][(w+k-d)&65535]; } } w+=n;
#elif KIND == K_UPPER || KIND == K_LOWER || KIND == K_ONEMODE
    float both = std::pow(10.f, (v[1]+v[2])/20); for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=both*in[c][k];
#elif KIND == K_FORGETSOPTION || KIND == K_FORGETSVALUE
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=g*(1+(int)(v[1]+.5f))*in[c][k];
#elif KIND == K_MUTED
    float open = v[0]>0.5f ? 0 : std::pow(10.f, v[2]/20); for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=open*in[c][k];
#elif KIND == K_FORGETSONE || KIND == K_FORGETSRATE
    float trim = std::pow(10.f, v[1]/20); for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=trim*g*in[c][k];
#elif KIND == K_LIES
    for(uint32_t k=0;k<n;k++){ for(int c=0;c<2;c++){ ring[c][(w+k)&65535]=in[c][k]; out[c][k]=g*ring[c][(w+k-LATE)&65535]; } } w+=n;
#elif KIND == K_SAMENAME
    float g2 = std::pow(10.f, v[1]/20);
    for(uint32_t k=0;k<n;k++){ float a=in[0][k], b=in[1][k]; out[0][k]=g*a; out[1][k]=g2*b; }
#elif KIND == K_CJK
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=g*v[1]*in[c][k];
#elif KIND == K_CHANNELS
    for(uint32_t k=0;k<n;k++){ float s=0; float x[NIN]; for(int c=0;c<NIN;c++){ x[c]=in[c][k]; s+=x[c]; }
      for(int c=0;c<NOUT;c++) out[c][k] = g*(c==0 ? s : (NIN>c? x[c] : -0.5f*s)); }
#elif KIND == K_TEMPO
    const TimePosition& t = getTimePosition(); double bpm = t.bbt.valid ? t.bbt.beatsPerMinute : 0; double pos = (double)t.frame;
    for(uint32_t k=0;k<n;k++){ double beat = bpm/60.0/getSampleRate()*(pos + (t.playing? k : 0)); float m = (t.playing && bpm>0) ? 1.f - v[0]*(0.5f-0.5f*std::cos(2*M_PI*beat)) : 1.f; for(int c=0;c<2;c++) out[c][k]=m*in[c][k]; }
#elif KIND == K_MODERESET
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=g*in[c][k];
#elif KIND == K_BANK
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=(1+(int)(v[0]+.5f)+10*(int)(v[1]+.5f))*in[c][k];
#elif KIND == K_MODEL
    float model = cur; for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=model*g*in[c][k];
#elif KIND == K_SLOWSET
    float late = std::pow(10.f, target/20);
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=late*in[c][k];
#elif KIND == K_SWITCHES
    bool off=false; for(int i=1;i<N;i++) off |= v[i]>0.5f;
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++){ if(!off) st[c][0]=0.9999f*st[c][0]+0.01f*in[c][k]; out[c][k]= off ? 0.f : g*st[c][0]; }
#elif KIND == K_METERS
    float top=0; if (v[1]>0.5f) frames=64; v[1]=0;
    for(uint32_t k=0;k<n;k++){ float s = frames>0 ? -g : g; if(frames>0) frames--; for(int c=0;c<2;c++){ out[c][k]= v[3]>0.5f ? 0 : s*in[c][k]; top=std::fmax(top,std::fabs(out[c][k])); } }
    v[2]=20*std::log10(top+1e-5f);
#elif KIND == K_BYPASS
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]= v[1]>0.5f ? in[c][k] : g*in[c][k];
#elif KIND == K_DENORMAL
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++){ float y=in[c][k]; for(int j=0;j<64;j++){ st[c][j] = 0.99f*st[c][j] + 0.01f*y; y=st[c][j]; } out[c][k]=g*y; }
#elif KIND == K_WARMUP
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]= ready ? 0.25f*g*in[c][k] : in[c][k];
#elif KIND == K_METER
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) { out[c][k]=g*in[c][k]; v[1]=std::fmax(v[1],std::fmin(1.f,std::fabs(in[c][k]))); }
#elif KIND == K_SLOWSETTING
    target=g; float now=cur; for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=ready ? now*in[c][k] : in[c][k];
#elif KIND == K_THREADAFF
    bool other = !pthread_equal(creator, pthread_self());
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]= other ? 0.f : g*in[c][k];
#else
    for(int c=0;c<2;c++) for(uint32_t k=0;k<n;k++) out[c][k]=g*in[c][k];
#endif
  }
};
Plugin* create() { return new Odd(); }
}
#undef KIND
